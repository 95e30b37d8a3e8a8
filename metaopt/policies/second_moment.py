"""Gradients divided by the root of their second moment, so that a learning rate means the same on unlike tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.policies.rule import State, UpdateRule
from metaopt.types import Params

DECAY = 0.999
FLOOR = 1e-5
"""Added, squared, to the second moment: gradients far below it are as good as zero."""


def normalised(rule: UpdateRule, decay: float = DECAY, floor: float = FLOOR) -> UpdateRule:
    """The same rule on gradients g / √(v̂ + floor²), elementwise, with v̂ the running mean of g² without its bias.

    The second moment is Adam's (Kingma & Ba, 2015). Momentum comes after it, and what the rule adds to a gradient (L2
    and the pull) is not normalised, as in AdamW (Loshchilov & Hutter, 2019). The floor stands inside the root, whose
    derivative at zero would be infinite.

    Args:
        rule: what is done with the normalised gradients.
        decay: of the running mean.
        floor: > 0.
    """

    def init(params: Params) -> State:
        return {"rule": rule.init(params), "square": {name: torch.zeros_like(p) for name, p in params.items()}}

    def update(params: Params, grads: Params, state: State, step: int | Tensor) -> tuple[Params, State]:
        count = step + 1 if isinstance(step, int) else (step + 1).to(next(iter(params.values())).dtype)
        correction = 1 - decay**count
        square = {name: decay * state["square"][name] + (1 - decay) * g * g for name, g in grads.items()}
        scaled = {name: g / torch.sqrt(square[name] / correction + floor**2) for name, g in grads.items()}
        params, inner = rule.update(params, scaled, state["rule"], step)
        return params, {"rule": inner, "square": square}

    return UpdateRule(init, update)
