"""A learned mixture of update directions, of which one is chosen when the policy is saved.

In the manner of searches for architectures by gradient (Liu et al., "DARTS", ICLR 2019), with directions in the place
of operations: softmax weights make the choice smooth while it is learned. They tell which direction helps beside the
others, which need not be the one that is best alone; what sharpening costs is measured, and said. Drawing a direction
for each task with the weights as probabilities (Xie et al., "SNAS", ICLR 2019) makes noisier hypergradients, and came
to policies that were no better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from metaopt.policies.rule import Choice, Settled, Site, State, Strengths, UpdateRule
from metaopt.policies.second_moment import DECAY, FLOOR
from metaopt.policies.settings import MomentumSettings, PolicySettings, StrengthSettings
from metaopt.policies.sign import signed
from metaopt.policies.step import at_step, plus, regularised, running_mean
from metaopt.types import Params

DIRECTIONS = ("sgd", "momentum", "rmsprop", "adam", "sign")
RAW_RATE = 10.0
"""At first the learning rate counts so many times where a direction is of the gradient's own size: gradients of a mean
loss are small against the others' entries, which are of the order of 1."""
SHARPNESS = 4.0
"""What the softmax multiplies the logits with: the outer optimizer moves each by about the same amount in a step, and
needs few steps from equal weights to nearly one choice."""


def direction_numbers(settings: PolicySettings, generator: torch.Generator | None) -> Params:
    """Logits of equal weights, and logarithms of the rates, [directions] each, both in the order of `DIRECTIONS`."""
    del settings, generator
    rates = [math.log(RAW_RATE) if name in ("sgd", "momentum") else 0.0 for name in DIRECTIONS]
    return {"weights": torch.zeros(len(DIRECTIONS)), "rates": torch.tensor(rates)}


def direction_weights(own: Params) -> Tensor:
    """The share of each direction's step in the mixture, [directions]; they sum to 1."""
    return torch.softmax(SHARPNESS * own["weights"], 0)


def direction_rule(
    strengths: Strengths, own: Params, site: Site, plain: Callable[[Strengths], UpdateRule]
) -> UpdateRule:
    """Steps along Σ wₖ·rₖ·dₖ, with softmax weights w and positive rates r: a convex combination of five steps.

    With g' as in `regularised_step`, elementwise: `sgd` g'; `momentum` m, its running mean; `rmsprop` g'/√(v + floor²)
    with v the running mean of g'², without its bias; `adam` the same with m, without its bias, in the place of g';
    `sign` that of g', smoothed as `signed` does.

    Args:
        strengths: of every step alike; momentum, the decay of m, is needed.
        own: see `direction_numbers`.
        site: not used.
        plain: not used.
    """
    del site, plain
    mu, schedule = strengths.momentum, strengths.schedule
    if mu is None:
        raise ValueError("two of the directions have momentum, but there is none; give strengths with momentum")
    sgd, momentum, rmsprop, adam, sign = (direction_weights(own) * own["rates"].exp()).unbind()

    def init(params: Params) -> State:
        return {kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in ("mean", "square")}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        count = step + 1 if isinstance(step, int) else (step + 1).to(next(iter(params.values())).dtype)
        unbiased_mean, unbiased_square = 1 - mu**count, 1 - DECAY**count
        new: Params = {}
        mean: Params = {}
        square: Params = {}
        for name, p in params.items():
            g = regularised(name, p, grads[name], strengths.l2, strengths.pull, strengths.anchor)
            m = mean[name] = running_mean(state["mean"][name], g, mu)
            square[name] = torch.addcmul(DECAY * state["square"][name], g, g, value=1 - DECAY)
            inverse = torch.rsqrt(square[name] + FLOOR**2 * unbiased_square)
            scaled = plus(unbiased_square**0.5 * rmsprop * g, unbiased_square**0.5 / unbiased_mean * adam, m)
            along = torch.addcmul(plus(plus(sgd * g, momentum, m), sign, signed(g)), scaled, inverse)
            rate = strengths.lr[name] if schedule is None else at_step(schedule[name], step) * strengths.lr[name]
            new[name] = plus(p, -rate, along)
        return new, {"mean": mean, "square": square}

    return UpdateRule(init, update)


def settled_direction(settings: PolicySettings, own: Params, momentum: Tensor | float | None) -> Settled:
    """The policy whose inner step is the direction of the largest weight alone, at that direction's rate.

    It is an ordinary policy without a mixture. All learning rates take the factor rₖ, with which the step is that
    which the direction has in the mixture as its weight goes to 1.

    Args:
        settings: of the policy with the mixture.
        own: see `direction_numbers`.
        momentum: μ.
    """
    chosen = int(direction_weights(own).argmax())
    name = DIRECTIONS[chosen]
    factor = own["rates"][chosen].exp()
    if name == "momentum":
        assert momentum is not None, "settings are checked to have a momentum"
        factor = factor * (1 - momentum)  # the plain step sums gradients where the mixture takes their mean
    lr = settings.lr if settings.lr.mode == "learned" else StrengthSettings("learned", settings.lr.value, "global")
    alone = replace(
        settings,
        name=f"{settings.name} ({name})",
        lr=lr,
        rule="strengths",
        preconditioner={"rmsprop": "second_moment", "adam": "second_moment", "sign": "sign"}.get(name, "off"),  # type: ignore[arg-type]
        momentum=settings.momentum if name in ("momentum", "adam") else MomentumSettings(),
    )
    return Settled(alone, factor, Choice("update direction", name, direction_shares(own)))


def direction_shares(own: Params) -> Mapping[str, float]:
    """The weights by name."""
    return dict(zip(DIRECTIONS, direction_weights(own).tolist(), strict=True))
