"""Means over tasks, with the intervals that say how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats has the same, and takes a second to import


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
    for two or more. Skewed values take away coverage where they are few: of log-normal ones (skewness 6) 20 give an
    interval that covers the mean in 86 % of all cases, 100 one that does so in 92 %.

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
    reach = float(stdtrit(len(values) - 1, 0.975)) * standard_error
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


def paired_p(method: np.ndarray, policy: np.ndarray) -> float:
    """Two-sided p-value of a paired t-test; below 0.05 exactly where the interval of `paired` excludes zero.

    Args:
        method: the method's losses, [tasks].
        policy: the policy's losses on the same tasks, [tasks].

    Returns:
        The p-value. Differences that are all zero give 1 and those that are all the same otherwise 0; a single task has
        no spread to hold its difference against, and gives 1.
    """
    difference = np.asarray(method, dtype=np.float64) - np.asarray(policy, dtype=np.float64)
    if len(difference) < 2:
        return 1.0
    # By hand, since scipy's test warns of a lack of precision where the differences hardly differ.
    mean, standard_error = abs(float(difference.mean())), float(difference.std(ddof=1)) / len(difference) ** 0.5
    if standard_error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(len(difference) - 1, -mean / standard_error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for many tests at once.

    Rejecting what stays below α keeps the chance of a single false rejection among all tests below α, however the tests
    depend on each other, and rejects all that Bonferroni's correction does. Source: S. Holm, "A simple sequentially
    rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).

    Args:
        p_values: one for each test, between 0 and 1.

    Returns:
        The corrected p-values in the same order.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, test in enumerate(sorted(range(len(p_values)), key=lambda test: p_values[test])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[test]))
        corrected[test] = largest
    return corrected
