"""Training on one task: the inner loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from metaopt.policies.rule import Start, State, UpdateRule
from metaopt.trees import row
from metaopt.types import Batch, Loss, Params

Gradient: TypeAlias = Callable[[Params, Batch], tuple[Params, Tensor]]
"""(params, batch of one task) -> (gradient of the loss, loss). How to differentiate is the caller's to choose."""


def exact_gradient(loss: Loss) -> Gradient:
    """The gradient, itself differentiable: hypergradients flow through it."""
    return torch.func.grad_and_value(loss)


def constant_gradient(loss: Loss) -> Gradient:
    """The gradient taken as a constant: hypergradients see only the update rule (first order)."""
    exact = exact_gradient(loss)

    def gradient(params: Params, batch: Batch) -> tuple[Params, Tensor]:
        grads, value = exact(params, batch)
        return {name: g.detach() for name, g in grads.items()}, value.detach()

    return gradient


def minibatch(support: Batch, order: Tensor | None, step: int | Tensor) -> Batch:
    """What step `step` trains on.

    Args:
        support: one task's support set, [support, *input].
        order: [steps, batch] indices, or None for the whole support set.
        step: from 0; an int, or a scalar int64 tensor.
    """
    if order is None:
        return support
    rows = row(order, step)
    return Batch(support.x[rows], support.y[rows])


def inner_step(
    gradient: Gradient, rule: UpdateRule, params: Params, state: State, batch: Batch, step: int | Tensor
) -> tuple[Params, State, Tensor]:
    """One step: gradient of the support loss, then the rule.

    Returns:
        New parameters, new state of the rule, and the support loss before the step.
    """
    grads, loss = gradient(params, batch)
    params, state = rule.update(params, grads, state, step, loss)
    return params, state, loss


def unroll(
    start: Start, gradient: Gradient, support: Batch, order: Tensor | None, horizon: int
) -> tuple[Params, Tensor]:
    """Trains one task for `horizon` steps.

    Returns:
        The trained parameters, and the support loss that the last step saw (a scalar).
    """
    params, rule = start
    state = rule.init(params)
    loss = next(iter(params.values())).new_zeros(())
    for step in range(horizon):
        params, state, loss = inner_step(gradient, rule, params, state, minibatch(support, order, step), step)
    return params, loss
