"""Means over tasks, with the intervals that say how far to trust them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval.

    Attributes:
        mean: mean over tasks.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """A method against the policy, task by task.

    Attributes:
        difference: the method's loss minus the policy's; positive means that the policy is better.
        win_rate: share of the tasks on which the policy's loss is the lower one; a tie counts half.
    """

    difference: Interval
    win_rate: float


def mean_interval(values: np.ndarray) -> Interval:
    """Mean of independent values with Student's 95 % interval.

    A single value says nothing of the spread: its interval has no width, so whoever sets the number of tasks must ask
    for two or more.

    Args:
        values: one finite number per task, [tasks]; at least one.

    Returns:
        The mean and the two ends of its interval.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, mean, mean)
    standard_error = float(values.std(ddof=1)) / len(values) ** 0.5
    reach = float(stats.t.ppf(0.975, df=len(values) - 1)) * standard_error
    return Interval(mean, mean - reach, mean + reach)


def paired(method: np.ndarray, policy: np.ndarray) -> Paired:
    """How much better the policy is than a method on the same tasks.

    Args:
        method: the method's losses, [tasks].
        policy: the policy's losses on the same tasks, [tasks].

    Returns:
        The mean difference with its interval, and the policy's win rate.
    """
    difference = np.asarray(method, dtype=np.float64) - np.asarray(policy, dtype=np.float64)
    win_rate = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return Paired(mean_interval(difference), win_rate)
