"""Which steps of a training to store, so that going back through it trains as little as possible again.

Binomial checkpointing: A. Griewank, "Achieving logarithmic growth of temporal and spatial complexity in reverse
automatic differentiation", 1992; A. Griewank and A. Walther, "Algorithm 799: revolve", 2000.

A segment begins with what is carried before its first step, which is stored, and ends where the derivatives are known.
It is cut in two: training goes up to the cut, what is carried there is stored as well, the later part is gone back
through with one slot less, and then the earlier part with all of them. A part of one step needs no training, and no
slot: what was carried to it is used at once. The query loss behind the last step counts as a step, so that a training
of T steps is a segment of T + 1, and the first pass is nothing special.

With s slots, the longest segment of which no step is trained more than r times has (s + r choose r) steps: the earlier
part has been trained once on the way to the cut, and the later part has a slot less.
"""

from __future__ import annotations

import math


def longest(slots: int, times: int) -> int:
    """Steps of the longest segment that needs no step trained more than so many times, for `slots` and `times` ≥ 0."""
    return math.comb(slots + times, times)


def first_part(steps: int, slots: int) -> int:
    """Where to cut a segment.

    Args:
        steps: of the segment, at least 2.
        slots: for what is carried, with that at its beginning; at least 1.

    Returns:
        Steps of the earlier part: from 1 to steps − 1. Of all the cuts with which the fewest steps are trained, the
        latest.
    """
    times = 1
    while longest(slots, times) < steps:
        times += 1
    # The earlier part may be trained once less; the later one is no shorter than what once less would do for.
    return min(longest(slots, times - 1), steps - longest(slots - 1, times - 1))


def slots_for_two_trainings(horizon: int) -> int:
    """The fewest slots with which no step is trained more than twice, the first pass counted: about √(2 horizon).

    With N slots that is so for horizon + 1 ≤ (N + 1)(N + 2) / 2, so that N is the largest with N (N + 1) / 2 ≤ horizon.
    """
    return (math.isqrt(8 * horizon + 1) - 1) // 2
