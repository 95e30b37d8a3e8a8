"""The inner steps, as update rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from metaopt.policies.rule import Schedule, State, Strength, Strengths, UpdateRule
from metaopt.trees import row
from metaopt.types import Params

Scalar: TypeAlias = "Tensor | float"


def regularised_step(
    lr: Strength,
    l2: Strength | None = None,
    pull: Strength | None = None,
    anchor: Params | None = None,
    momentum: Tensor | float | None = None,
    schedule: Schedule | None = None,
    nesterov: Tensor | bool = False,
    in_place: bool = False,
) -> UpdateRule:
    """Gradient descent with everything that a policy may learn; what is None is absent.

    With gradient g of the loss, elementwise: g' = g + l2·θ + pull·(θ − θ₀); m = momentum·m + g';
    θ = θ − schedule[step]·lr·m.

    Args:
        lr: learning rates α.
        l2: L2 strengths λ.
        pull: strengths ρ of the pull towards `anchor`.
        anchor: θ₀; needed with `pull`.
        momentum: μ, a scalar.
        schedule: by parameter tensor, a factor for each step, [horizon]. Beyond the horizon the last one holds.
        nesterov: step along g' + momentum·m instead of m, as `torch.optim.SGD` does with `nesterov=True`; a bool, or a
            scalar tensor of bools.
        in_place: see `step_along`.
    """

    if in_place and pull is None and momentum is None:
        return _shrinking_step(lr, l2, schedule)
    along, beyond = split(nesterov, 1.0), split(nesterov, momentum, 1.0)

    def direction(g: Tensor, m: Tensor | None) -> Tensor:
        if m is None:
            return g
        return m if nesterov is False else along * g + beyond * m

    return step_along(Strengths(lr, l2, pull, anchor, momentum, schedule), 1.0, direction, in_place)


def step_along(
    strengths: Strengths,
    weight: Tensor | float,
    direction: Callable[[Tensor, Tensor | None], Tensor],
    in_place: bool = False,
) -> UpdateRule:
    """Steps θ − schedule[step]·lr·d along a direction d of the regularised gradient g' and of one memory of it.

    Args:
        strengths: see `regularised_step`; without momentum there is no memory.
        weight: w in the memory m = momentum·m + w·g' of a parameter tensor; m is zero at first.
        direction: (g', m after) -> d; m is None without momentum.
        in_place: write over parameters and memory instead of making new ones: for training that nothing differentiates
            through. Momentum and the schedule's factors are floats then.
    """

    def init(params: Params) -> State:
        return {} if strengths.momentum is None else {name: torch.zeros_like(p) for name, p in params.items()}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        lr, l2, pull, anchor, momentum, schedule = strengths
        new_params, new_state = {}, {}
        for name, p in params.items():
            g = regularised(name, p, grads[name], l2, pull, anchor)
            if momentum is not None:
                new_state[name] = accumulated(state[name], momentum, g, weight, in_place)
            factor = None if schedule is None else at_step(schedule[name], step)
            new_params[name] = moved(p, lr[name], factor, direction(g, new_state.get(name)), in_place)
        return new_params, new_state

    return UpdateRule(init, update)


def _shrinking_step(lr: Strength, l2: Strength | None, schedule: Schedule | None) -> UpdateRule:
    """Steps θ·(1 − schedule[step]·lr·l2) − schedule[step]·lr·g, written over θ: no sum with g is ever stored."""
    shrinkage = None if l2 is None else {name: rate * l2[name] for name, rate in lr.items()}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        for name, p in params.items():
            factor: Any = 1.0 if schedule is None else at_step(schedule[name], step)
            if shrinkage is not None:
                shrink = shrinkage[name]
                if isinstance(shrink, Tensor):
                    p.addcmul_(shrink, p, value=-factor)
                else:
                    p.mul_(1 - factor * shrink)
            moved(p, lr[name], factor, grads[name], in_place=True)
        return params, state

    return UpdateRule(lambda params: {}, update)


def holding(rule: UpdateRule, names: Sequence[str]) -> UpdateRule:
    """The same rule, which leaves some parameter tensors as they are.

    Args:
        rule: for the others.
        names: of those that are held.
    """
    if not names:
        return rule

    def others(tree: Params) -> Params:
        return {name: tensor for name, tensor in tree.items() if name not in names}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        new, state = rule.update(others(params), others(grads), state, step, loss)
        return {name: new.get(name, p) for name, p in params.items()}, state

    return rule._replace(init=lambda params: rule.init(others(params)), update=update)


def regularised(
    name: str, p: Tensor, g: Tensor, l2: Strength | None, pull: Strength | None, anchor: Params | None
) -> Tensor:
    """g' = g + l2·θ + pull·(θ − θ₀) for one parameter tensor; see `regularised_step`."""
    if l2 is not None:
        g = plus(g, l2[name], p)
    if pull is not None and anchor is not None:
        g = plus(g, pull[name], p - anchor[name])
    return g


def accumulated(memory: Tensor, decay: Any, value: Tensor, weight: Any = 1.0, in_place: bool = False) -> Tensor:
    """decay·memory + weight·value; written over the memory where that is asked for, and decay and weight are floats."""
    if in_place:
        return memory.mul_(decay).add_(value, alpha=weight)
    kept = decay * memory
    return kept + value if isinstance(weight, float) and weight == 1.0 else plus(kept, weight, value)


def moved(p: Tensor, lr: Tensor | float, factor: Any, direction: Tensor, in_place: bool = False) -> Tensor:
    """p − factor·lr·direction; written over p where that is asked for, and the factor is a float.

    Args:
        p: the parameters.
        lr: their learning rate, a number or a tensor that broadcasts against them.
        factor: of the schedule; None: 1.
        direction: of their shape.
        in_place: see `step_along`.
    """
    if not in_place:
        return p - (lr if factor is None else factor * lr) * direction
    if isinstance(lr, Tensor):
        return p.addcmul_(lr, direction, value=-1.0 if factor is None else -factor)
    return p.add_(direction, alpha=-lr if factor is None else -factor * lr)


def plus(tensor: Tensor, factor: Tensor | float, other: Tensor) -> Tensor:
    """tensor + factor·other, in one pass over them."""
    if isinstance(factor, Tensor):
        return torch.addcmul(tensor, factor, other)
    return torch.add(tensor, other, alpha=factor)


def running_mean(mean: Tensor, value: Tensor, decay: Tensor | float, in_place: bool = False) -> Tensor:
    """decay·mean + (1 − decay)·value; `torch.lerp` is slower where the decay is a tensor."""
    return accumulated(mean, decay, value, 1 - decay, in_place)


def adam_step(
    lr: Tensor | float,
    l2: Tensor | float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    decoupled: Tensor | bool = False,
    schedule: Tensor | None = None,
) -> UpdateRule:
    """Adam (Kingma & Ba, 2015) with the L2 term added to the gradient, as in `torch.optim.Adam`.

    ε stands inside the square root, as ε²: the derivative of √v at v = 0 would be infinite. Away from v = 0 the
    difference from torch's form is of relative size ε/√v.

    Args:
        lr, l2: scalars.
        betas: decay of the running means of gradients and of their squares.
        eps: ε.
        decoupled: shrink the parameters by lr·l2 instead, as `torch.optim.AdamW` does (Loshchilov & Hutter, 2019); a
            bool, or a scalar tensor of bools.
        schedule: a factor of the learning rate for each step, [horizon]. Beyond the horizon the last one holds.
    """

    coupled, apart = split(decoupled, 0.0, l2), split(decoupled, l2)

    def init(params: Params) -> State:
        return {kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in ("mean", "square")}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        new_params: Params = {}
        mean: Params = {}
        square: Params = {}
        first = next(iter(params.values()))
        count = step + 1 if isinstance(step, int) else (step + 1).to(first.dtype)
        correction = (1 - betas[0] ** count, 1 - betas[1] ** count)
        rate = lr if schedule is None else at_step(schedule, step) * lr
        for name, p in params.items():
            g = grads[name] if decoupled is True else grads[name] + coupled * p
            shrunk = p if decoupled is False else p * (1 - rate * apart)
            mean[name] = betas[0] * state["mean"][name] + (1 - betas[0]) * g
            square[name] = betas[1] * state["square"][name] + (1 - betas[1]) * g * g
            root = torch.sqrt(square[name] / correction[1] + eps**2)
            new_params[name] = shrunk - rate / correction[0] * mean[name] / root
        return new_params, {"mean": mean, "square": square}

    return UpdateRule(init, update)


def split(condition: Tensor | bool, then: Scalar | None, otherwise: Scalar = 0.0) -> Scalar:
    """The one scalar where a condition holds and the other where it does not; the condition may be a tensor of bools.

    So that what depends on a condition is chosen once, among scalars, and not in each step for all parameters.
    """
    value = 0.0 if then is None else then
    if isinstance(condition, Tensor):
        return torch.where(condition, value, otherwise)
    return value if condition else otherwise


def at_step(factors: Tensor | Sequence[float], step: int | Tensor) -> Tensor | float:
    """The factor of a step; beyond the last one, the last one.

    Args:
        factors: [horizon]; or so many floats.
        step: an int, or a scalar int64 tensor; an int where the factors are floats.
    """
    last = len(factors) - 1
    if not isinstance(factors, Tensor):
        return factors[min(int(step), last)]
    return row(factors, min(step, last) if isinstance(step, int) else step.clamp(max=last))
