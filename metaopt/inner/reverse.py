"""Hypergradients in reverse mode through the whole unroll, all tasks side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.unroll import constant_gradient, exact_gradient, unroll
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.trees import expanded
from metaopt.types import Batch, Params, TaskBatch


@dataclass(frozen=True)
class Reverse:
    """Backpropagation through the graph of all inner steps. Memory grows with the horizon.

    Attributes:
        first_order: take the gradients of the support loss as constants (first-order MAML; Finn et al., 2017): cheaper,
            and biased. Quantities of the update rule still get a hypergradient.
    """

    first_order: bool = False

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`."""
        gradient = (constant_gradient if self.first_order else exact_gradient)(objective.loss)

        def task_loss(
            hyper: Params, noise: Params, order: Tensor | None, support: Batch, query: Batch
        ) -> tuple[Tensor, Tensor, Tensor]:
            start = torch.func.functional_call(policy, hyper, (noise,))
            params, support_loss = unroll(start, gradient, support, order, horizon)
            loss, accuracy = objective.scores(params, query)
            return loss, accuracy, support_loss

        # A leaf for each task gives each task its own hypergradient in one backward pass.
        n_tasks = tasks.support.x.shape[0]
        hyper = {name: p.detach() for name, p in policy.named_parameters()}
        leaves = {name: p.requires_grad_() for name, p in expanded(hyper, n_tasks).items()}
        batched = torch.func.vmap(task_loss, in_dims=(0, 0, None if draws.order is None else 0, 0, 0))
        with torch.enable_grad():
            losses, accuracies, support_losses = batched(leaves, draws.noise, draws.order, tasks.support, tasks.query)
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        return Hypergradients(
            dict(zip(leaves, grads, strict=True)), losses.detach(), accuracies.detach(), support_losses.detach()
        )
