"""The kinds of inner step that a policy can consist of, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metaopt.policies.adaptive import adaptive_numbers, adaptive_rule
from metaopt.policies.directions import direction_numbers, direction_rule, settled_direction
from metaopt.policies.learned_optimizer import learned_optimizer_numbers, learned_optimizer_rule
from metaopt.policies.rule import Settled, Site, Strengths, UpdateRule
from metaopt.policies.settings import PolicySettings
from metaopt.types import Params

Plain: TypeAlias = Callable[[Strengths], UpdateRule]
"""The inner step with nothing but strengths."""


class Kind(NamedTuple):
    """A kind of inner step. What it learns besides the strengths fits any model.

    Attributes:
        numbers: (settings, generator) -> what it learns, by name, where learning starts. Names must not contain dots.
        rule: (strengths, these numbers, where the rule is at work, the plain step) -> the update rule.
        settled: of a mixture: (settings, these numbers, μ) -> what it is sharpened into when the policy is saved. None:
            a policy is saved as it is.
    """

    numbers: Callable[[PolicySettings, torch.Generator | None], Params]
    rule: Callable[[Strengths, Params, Site, Plain], UpdateRule]
    settled: Callable[[PolicySettings, Params, Tensor | float | None], Settled] | None = None


KINDS = {
    "strengths": Kind(lambda _, __: {}, lambda strengths, _, __, plain: plain(strengths)),
    "adaptive": Kind(adaptive_numbers, adaptive_rule),
    "learned_optimizer": Kind(learned_optimizer_numbers, learned_optimizer_rule),
    "directions": Kind(direction_numbers, direction_rule, settled_direction),
}
