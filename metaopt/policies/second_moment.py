"""Adam with everything that a policy may learn: a learning rate means the same on tasks of unlike gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaopt.policies.rule import Schedule, State, Strength, UpdateRule
from metaopt.policies.step import at_step, moved, plus, regularised, running_mean
from metaopt.types import Params

DECAY = 0.999
FLOOR = 1e-6
"""Added, squared, to the second moment: gradients far below it are as good as zero."""


def normalised_step(
    lr: Strength,
    l2: Strength | None = None,
    pull: Strength | None = None,
    anchor: Params | None = None,
    momentum: Tensor | float | None = None,
    schedule: Schedule | None = None,
    decay: float = DECAY,
    floor: float = FLOOR,
    decoupled: bool = False,
    in_place: bool = False,
) -> UpdateRule:
    """Adam (Kingma & Ba, 2015) with strengths by parameter; what is None is absent.

    With gradient g of the loss, elementwise: g' = g + l2·θ + pull·(θ − θ₀); m and v are the running means of g' and
    g'², without their bias; θ = θ − schedule[step]·lr·m / √(v + floor²). The floor stands inside the root, whose
    derivative at zero would be infinite.

    Args:
        lr, l2, pull, anchor, schedule: see `regularised_step`.
        momentum: decay of the running mean of gradients, Adam's β₁, a scalar; None: no mean.
        decay: of the second moment, Adam's β₂.
        floor: > 0; Adam's ε.
        decoupled: L2 is no part of g', but θ is multiplied with exp(−schedule[step]·lr·l2) before the step: to first
            order what AdamW does (Loshchilov & Hutter, 2019), and never more than to zero.
        in_place: see `step_along`.
    """
    added = None if decoupled else l2

    def init(params: Params) -> State:
        kinds = ("square",) if momentum is None else ("mean", "square")
        return {kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in kinds}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        new_params, mean, square = {}, {}, {}
        count = step + 1 if isinstance(step, int) else (step + 1).to(next(iter(params.values())).dtype)
        unbiased_square = 1 - decay**count
        unbiased_mean = 1.0 if momentum is None else 1 - momentum**count
        correction = unbiased_square**0.5 / unbiased_mean  # of the step, in the place of m and v
        for name, p in params.items():
            g = regularised(name, p, grads[name], added, pull, anchor)
            before = state["square"][name]
            decayed = before.mul_(decay) if in_place else decay * before
            square[name] = (decayed.addcmul_ if in_place else decayed.addcmul)(g, g, value=1 - decay)
            inverse = torch.rsqrt(square[name] + floor**2 * unbiased_square)
            if momentum is not None:
                g = mean[name] = running_mean(state["mean"][name], g, momentum, in_place)
            factor = None if schedule is None else at_step(schedule[name], step)
            rate = lr[name] if factor is None else factor * lr[name]
            kept = _shrunk(p, rate * l2[name], in_place) if decoupled and l2 is not None else p
            if in_place:
                scale = correction if factor is None else factor * correction
                new_params[name] = moved(kept, lr[name], scale, inverse.mul_(g), in_place)
            else:
                new_params[name] = plus(kept, -rate * correction, g * inverse)
        return new_params, {"square": square} if momentum is None else {"mean": mean, "square": square}

    return UpdateRule(init, update)


def _shrunk(p: Tensor, by: Tensor | float, in_place: bool) -> Tensor:
    factor = (-by).exp() if isinstance(by, Tensor) else math.exp(-by)
    return p.mul_(factor) if in_place else p * factor
