"""What every way to the hypergradient takes and returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metaopt.inner.draws import Draws
from metaopt.layout import Layout
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import Params, TaskBatch


class Hypergradients(NamedTuple):
    """Hypergradients of a meta-batch, task by task, or summed where that was asked for.

    Attributes:
        flat: derivatives of the query losses by the policy's parameters, [rows, numbers]: a row for each task; where
            they are summed, one for each group of tasks that were trained side by side.
        layout: where each of the policy's parameters lies in `flat`, in the order of `named_parameters`.
        loss: query loss after the horizon, [tasks].
        accuracy: query accuracy after the horizon, [tasks]; NaN for regression.
        support_loss: support loss that the last inner step saw, [tasks].
    """

    flat: Tensor
    layout: Layout
    loss: Tensor
    accuracy: Tensor
    support_loss: Tensor

    @property
    def grads(self) -> Params:
        """The hypergradients by name, [rows, *shape]: views of `flat`."""
        return self.layout.unpack(self.flat)

    @property
    def finite(self) -> bool:
        """Whether all losses and hypergradients are finite, and so are their sums."""
        sums = torch.stack([self.loss.sum(), self.flat.sum()])  # on a GPU one answer to wait for, not two
        return bool(torch.isfinite(sums).all())


def hypergradients_of(grads: Params, loss: Tensor, accuracy: Tensor, support_loss: Tensor) -> Hypergradients:
    """From hypergradients by name, [tasks, *shape]."""
    layout = Layout({name: tensor.shape[1:] for name, tensor in grads.items()})
    return Hypergradients(layout.pack(grads, 1), layout, loss, accuracy, support_loss)


def joined(parts: Sequence[Hypergradients]) -> Hypergradients:
    """The hypergradients of several groups of tasks as those of one."""
    if len(parts) == 1:
        return parts[0]
    tensors = ([part[i] for part in parts] for i in (0, 2, 3, 4))
    flat, loss, accuracy, support_loss = (torch.cat(each) for each in tensors)  # type: ignore[arg-type]
    return Hypergradients(flat, parts[0].layout, loss, accuracy, support_loss)


class HypergradientMethod(Protocol):
    """A way to differentiate query losses, after training, by the policy's parameters."""

    def __call__(
        self,
        policy: Policy,
        objective: Objective,
        tasks: TaskBatch,
        draws: Draws,
        horizon: int,
        summed: bool = False,
    ) -> Hypergradients:
        """Trains on each task's support set and differentiates its query loss.

        Args:
            policy: the policy at its present parameters, which stay as they are.
            objective: losses and scores of the model.
            tasks: [tasks] of them.
            draws: the randomness of their training.
            horizon: number of inner steps, ≥ 1.
            summed: add the tasks' hypergradients up on the way, which costs less time and memory; then a task that went
                wrong cannot be left out afterwards.
        """
        ...


def summed_if_finite(
    method: HypergradientMethod, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
) -> Hypergradients:
    """Summed hypergradients; where these are not finite, those of each task, so that some can be left out."""
    found = method(policy, objective, tasks, draws, horizon, summed=True)
    return found if found.finite else method(policy, objective, tasks, draws, horizon)
