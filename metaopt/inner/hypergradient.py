"""What every way to the hypergradient takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metaopt.inner.draws import Draws
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import Params, TaskBatch


class Hypergradients(NamedTuple):
    """One hypergradient for each task, so that a task that went wrong can be left out.

    Attributes:
        grads: derivative of each task's query loss by the policy's parameters, [tasks, *shape], by name.
        loss: query loss after the horizon, [tasks].
        accuracy: query accuracy after the horizon, [tasks]; NaN for regression.
        support_loss: support loss that the last inner step saw, [tasks].
    """

    grads: Params
    loss: Tensor
    accuracy: Tensor
    support_loss: Tensor


def joined(parts: Sequence[Hypergradients]) -> Hypergradients:
    """The hypergradients of several groups of tasks as those of one."""
    if len(parts) == 1:
        return parts[0]
    grads = {name: torch.cat([part.grads[name] for part in parts]) for name in parts[0].grads}
    losses, accuracies, support_losses = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[1:])
    return Hypergradients(grads, losses, accuracies, support_losses)


class HypergradientMethod(Protocol):
    """A way to differentiate query losses, after training, by the policy's parameters."""

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """Trains on each task's support set and differentiates its query loss.

        Args:
            policy: the policy at its present parameters, which stay as they are.
            objective: losses and scores of the model.
            tasks: [tasks] of them.
            draws: the randomness of their training.
            horizon: number of inner steps, ≥ 1.
        """
        ...
