"""Hypergradients in reverse mode through the whole unroll, all tasks side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.hypergradient import Hypergradients, joined
from metaopt.inner.unroll import constant_gradient, exact_gradient, unroll
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.trees import chunks, count_tasks, expanded, take_tasks
from metaopt.types import Batch, Params, TaskBatch


@dataclass(frozen=True)
class Reverse:
    """Backpropagation through the graph of all inner steps. Memory grows with the horizon.

    Attributes:
        first_order: take the gradients of the support loss as constants (first-order MAML; Finn et al., 2017): cheaper,
            and biased. Quantities of the update rule still get a hypergradient.
        chunk: tasks side by side; the chunks of a meta-batch follow one another. Convolutions on a CPU want few,
            because each task brings weights of its own; small matrix products want many.
    """

    first_order: bool = False
    chunk: int = 64

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`."""
        parts = [
            self._side_by_side(policy, objective, take_tasks(tasks, part), take_draws(draws, part), horizon)
            for part in chunks(count_tasks(tasks), self.chunk)
        ]
        return joined(parts)

    def _side_by_side(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        gradient = (constant_gradient if self.first_order else exact_gradient)(objective.loss)

        def task_loss(
            hyper: Params, noise: Params, order: Tensor | None, support: Batch, query: Batch
        ) -> tuple[Tensor, Tensor, Tensor]:
            start = torch.func.functional_call(policy, hyper, (noise,))
            params, support_loss = unroll(start, gradient, support, order, horizon)
            loss, accuracy = objective.scores(params, query)
            return loss, accuracy, support_loss

        # A leaf for each task gives each task its own hypergradient in one backward pass.
        n_tasks = count_tasks(tasks)
        hyper = {name: p.detach() for name, p in policy.named_parameters()}
        leaves = {name: p.requires_grad_() for name, p in expanded(hyper, n_tasks).items()}
        batched = torch.func.vmap(task_loss, in_dims=(0, 0, None if draws.order is None else 0, 0, 0))
        with torch.enable_grad():
            losses, accuracies, support_losses = batched(leaves, draws.noise, draws.order, tasks.support, tasks.query)
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True)
        return Hypergradients(
            dict(zip(leaves, grads, strict=True)), losses.detach(), accuracies.detach(), support_losses.detach()
        )
