"""Steps by the gradient's sign with everything that a policy may learn: all entries move by their rate."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.policies.rule import Schedule, Strength, Strengths, UpdateRule
from metaopt.policies.step import step_along
from metaopt.types import Params

SIGN_FLOOR = 1e-3
"""Below it the sign fades into the gradient."""


def signed(g: Tensor, floor: float = SIGN_FLOOR) -> Tensor:
    """g/√(g² + floor²), elementwise: the sign of what is larger than the floor.

    The derivative of the sign itself is zero almost everywhere: hypergradients would not see how a step depends on the
    training before it.
    """
    return g * torch.rsqrt(g * g + floor**2)


def signed_step(
    lr: Strength,
    l2: Strength | None = None,
    pull: Strength | None = None,
    anchor: Params | None = None,
    momentum: Tensor | float | None = None,
    schedule: Schedule | None = None,
    floor: float = SIGN_FLOOR,
    in_place: bool = False,
) -> UpdateRule:
    """Steps by the sign (Bernstein et al., "signSGD", ICML 2018) with strengths by parameter; what is None is absent.

    With gradient g of the loss, elementwise: g' = g + l2·θ + pull·(θ − θ₀); m is the running mean of g';
    θ = θ − schedule[step]·lr·m/√(m² + floor²).

    Args:
        lr, l2, pull, anchor, schedule: see `regularised_step`.
        momentum: decay of the running mean of gradients, a scalar; None: no mean, and m = g'.
        floor: > 0; see `signed`.
        in_place: see `step_along`.
    """

    def direction(g: Tensor, m: Tensor | None) -> Tensor:
        return signed(g if m is None else m, floor)

    weight = 1.0 if momentum is None else 1 - momentum
    return step_along(Strengths(lr, l2, pull, anchor, momentum, schedule), weight, direction, in_place)
