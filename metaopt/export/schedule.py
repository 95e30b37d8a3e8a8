"""A schedule in trainings of other lengths than it was learned for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

Beyond: TypeAlias = Literal["hold", "decay", "stretch"]
BEYOND: tuple[Beyond, ...] = ("hold", "decay", "stretch")


def factor_at(factors: Sequence[float] | None, step: int, steps: int, beyond: Beyond) -> float:
    """The factor of a step, from 0.

    Args:
        factors: of the steps that the schedule was learned for, [horizon]; None: no schedule, and the factor is 1.
        step: from 0.
        steps: number of steps of this training.
        beyond: `hold`: from the last step on its factor stays; `decay`: it falls from there as 1/step; `stretch`: the
            whole schedule is stretched, or compressed, to this training, with linear interpolation between its steps.
    """
    if factors is None:
        return 1.0
    last = len(factors) - 1
    if beyond == "stretch":
        at = last * min(1.0, step / max(1, steps - 1))
        below = int(at)
        return factors[below] + (at - below) * (factors[min(below + 1, last)] - factors[below])
    if beyond == "decay" and step > last:
        return factors[last] * (last + 1) / (step + 1)
    return factors[min(step, last)]
