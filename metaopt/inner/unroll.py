"""Training on one task: the inner loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metaopt.models.objective import TrainingLoss
from metaopt.models.running import stream
from metaopt.policies.rule import InnerLoss, LossNoise, Start, State, UpdateRule
from metaopt.trees import detached, row
from metaopt.types import Batch, Loss, Params

Gradient: TypeAlias = Callable[[Params, Batch], tuple[Params, Tensor]]
"""(params, batch of one task) -> (gradient of the loss, loss). How to differentiate is the caller's to choose."""

NO_NOISE = LossNoise()


def exact_gradient(loss: Loss) -> Gradient:
    """The gradient, itself differentiable: hypergradients flow through it."""
    return torch.func.grad_and_value(loss)


def constant_gradient(loss: Loss) -> Gradient:
    """The gradient taken as a constant in the parameters: hypergradients see the update rule, and what has entered the
    loss, but not how a step changes later gradients (first order)."""
    exact = exact_gradient(loss)
    return lambda params, batch: exact(detached(params), batch)


def step_loss(loss: TrainingLoss, inner: InnerLoss | None, noise: LossNoise, step: int | Tensor) -> Loss:
    """The loss that a step trains on: the task's own, unless the policy makes something of it.

    With a seed, whatever it draws is the same whenever it is computed.
    """
    whole = loss if inner is None else inner(loss, noise, step)
    seed = noise.seed
    if seed is None:
        return whole

    def replayed(params: Params, batch: Batch) -> Tensor:
        with stream(seed, step):
            return whole(params, batch)

    return replayed


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


class Moment(NamedTuple):
    """Where training stands.

    Attributes:
        params: the parameters.
        state: the rule's.
        support_loss: that the last step saw, a scalar; 0 before the first.
    """

    params: Params
    state: State
    support_loss: Tensor


def training(
    start: Start,
    loss: TrainingLoss,
    support: Batch,
    order: Tensor | None,
    horizon: int,
    noise: LossNoise = NO_NOISE,
    gradient: Callable[[Loss], Gradient] = exact_gradient,
) -> Iterator[Moment]:
    """Training on one task as it goes: the moment before the first step, and that after each; `horizon` + 1 of them.

    Args:
        start: where to start, how to step, and what is made of the loss.
        loss: the task's.
        support: its support set.
        order: see `minibatch`.
        horizon: number of steps.
        noise: what enters the loss.
        gradient: how to differentiate.
    """
    params, rule, inner = start
    now = Moment(params, rule.init(params), next(iter(params.values())).new_zeros(()))
    yield now
    for step in range(horizon):
        at_step = gradient(step_loss(loss, inner, noise, step))
        now = Moment(*inner_step(at_step, rule, now.params, now.state, minibatch(support, order, step), step))
        yield now


def unroll(
    start: Start,
    loss: TrainingLoss,
    support: Batch,
    order: Tensor | None,
    horizon: int,
    noise: LossNoise = NO_NOISE,
    gradient: Callable[[Loss], Gradient] = exact_gradient,
) -> tuple[Params, Tensor]:
    """Trains one task to the end; see `training`.

    Returns:
        The trained parameters, and the support loss that the last step saw (a scalar).
    """
    (last,) = deque(training(start, loss, support, order, horizon, noise, gradient), maxlen=1)
    return last.params, last.support_loss
