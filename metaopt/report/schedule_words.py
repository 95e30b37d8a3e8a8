"""How a learned schedule moves, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metaopt.report.numbers import compact, share

FLAT = 1.1
"""A schedule whose factors stay within that ratio does not move."""


def schedule_in_words(schedule: Mapping[str, np.ndarray]) -> list[str]:
    """Whether it warms up, where its peak is, and what is left of the peak at the last step.

    Of several schedules the geometric mean is described, and then those that end highest and lowest, relative to their
    own peaks.

    Args:
        schedule: factor on the learning rate per step, [horizon], by parameter tensor or role; "" for all tensors.

    Returns:
        One or two sentences; none without a schedule. Steps count from 0, as on the figure's axis.
    """
    curves = {name: np.asarray(factors, dtype=np.float64) for name, factors in schedule.items()}
    curves = {name: factors for name, factors in curves.items() if len(factors) and (factors > 0).all()}
    curves = {name: factors for name, factors in curves.items() if np.isfinite(factors).all()}
    if not curves:
        return []
    if len(curves) == 1:
        return [f"The schedule {_movement(next(iter(curves.values())))}."]
    middle = np.exp(np.mean([np.log(factors) for factors in curves.values()], axis=0))
    left = {name: float(factors[-1] / factors.max()) for name, factors in curves.items()}
    high, low = max(left, key=left.__getitem__), min(left, key=left.__getitem__)
    sentences = [f"The schedule, as the geometric mean of {len(curves)}, {_movement(middle)}."]
    if left[high] > FLAT * left[low]:
        sentences.append(
            f"It decays least for {high}, to {share(left[high])} of its peak by the last step, and most for {low}, to "
            f"{share(left[low])}."
        )
    return sentences


def _movement(factors: np.ndarray) -> str:
    """A predicate for one curve."""
    last = len(factors) - 1
    if last == 0:
        return f"is a single factor, {compact(factors[0])}"
    peak, trough = int(np.argmax(factors)), int(np.argmin(factors))
    top = factors[peak]
    if top < FLAT * factors[trough]:
        return f"is nearly flat: its factors lie between {compact(factors[trough])} and {compact(top)}"
    if peak == last or top < FLAT * factors[-1]:
        lowest = f" from its lowest point at step {trough}" if trough > 0 else ""
        return (
            f"rises{lowest} to {compact(top)} at the end, {compact(top / factors[trough], 2)} times its lowest factor"
        )
    decay = f"decays to {share(float(factors[-1] / top))} of that by the last step ({last})"
    if trough not in (0, last) and factors[-1] > FLAT * factors[trough]:
        fallen = share(float(factors[trough] / top))
        decay = f"falls to {fallen} of that at step {trough} and ends at {share(float(factors[-1] / top))} of it"
    if peak == 0 or top < FLAT * factors[0]:
        return f"falls: it is highest at the start ({compact(top)}) and {decay}"
    begin = share(float(factors[0] / top))
    return f"warms up from {begin} of its peak to the peak ({compact(top)}) at step {peak}, then {decay}"
