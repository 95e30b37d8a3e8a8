"""What a policy hands to the inner loop: where to start, and how to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from metaopt.types import Params

State: TypeAlias = Any
"""Whatever a rule carries from step to step: a (nested) dictionary of tensors, empty for a rule without memory."""


class UpdateRule(NamedTuple):
    """Two pure functions. Neither changes its arguments, and all memory is in the state.

    Attributes:
        init: params -> state before the first step.
        update: (params, grads, state, step) -> (params, state). `step` counts from 0; it is an int, or a scalar int64
            tensor where one compiled step serves them all.
    """

    init: Callable[[Params], State]
    update: Callable[[Params, Params, State, int | Tensor], tuple[Params, State]]


class Start(NamedTuple):
    """The beginning of one task's training.

    Attributes:
        params: θ₀, the model's parameters before the first step.
        rule: the update rule, which may refer to θ₀ (the pull does).
    """

    params: Params
    rule: UpdateRule


Initialise: TypeAlias = Callable[[Params], Params]
"""noise (one standard normal tensor per model parameter, of its shape) -> θ₀."""

Learner: TypeAlias = Callable[[Params], Start]
"""noise (one standard normal tensor per model parameter, of its shape) -> Start. Policies and baselines alike."""
