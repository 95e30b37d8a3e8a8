"""What each figure shows, in words and numbers, for those who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison
from metaopt.evaluation.statistics import Interval, mean_interval, paired
from metaopt.policies.reading import PolicyReading
from metaopt.report.first_layer import first_layer_pictures
from metaopt.report.headline import POLICY
from metaopt.report.multipliers import multipliers_in_words
from metaopt.report.numbers import compact, share
from metaopt.report.schedule_words import schedule_in_words
from metaopt.report.strengths import quantity_title
from metaopt.report.words import levels, shared_value
from metaopt.search.account import Account

MOST_NAMED = 12


def interval_words(interval: Interval, sign: str = "") -> str:
    """`mean (95 % interval low to high)`; `sign` "+" writes the plus of positive numbers."""
    mean, low, high = (f"{sign if value > 0 else ''}{compact(value)}" for value in interval)
    return f"{mean} (95 % interval {low} to {high})"


def curves_words(comparison: Comparison) -> str:
    """Of `learning_curves`."""
    comparison = by_member(comparison)
    parts = []
    for name, method in comparison.methods.items():
        start, end = float(method.curve[:, 0].mean()), float(method.curve[:, -1].mean())
        parts.append(f"{name} goes from {compact(start)} to {compact(end)}")
    steps = f"inner steps 0 to {comparison.horizon}"
    return f"Line chart of the mean test loss over {steps}: {_listed(parts)}."


def differences_words(comparison: Comparison) -> str:
    """Of `task_differences`."""
    comparison = by_member(comparison)
    policy = comparison.methods[POLICY]
    parts = []
    for name, method in comparison.methods.items():
        if name != POLICY:
            pair = paired(method.loss, policy.loss)
            difference = interval_words(pair.difference, "+")
            parts.append(f"{name} {difference}, the policy wins on {share(pair.win_rate)} of {comparison.unit}s")
    return f"A point for each {comparison.unit}: a method's test loss minus the policy's. Means: {_listed(parts)}."


def regret_words(account: Account) -> str:
    """Of `regret_figure`."""
    parts = []
    for name, method in account.methods.items():
        numbers = sorted({1, min(10, method.trials), method.trials})
        losses = ", ".join(compact(method.loss[n - 1].mean) for n in numbers)
        after = ", ".join(map(str, numbers))
        match = method.match_on_mean
        reached = "never matching the policy" if match is None else f"matching the policy at {match}"
        parts.append(f"{name} {losses} after {after} trials, {reached}")
    policy = interval_words(account.policy)
    chart = f"Line chart of the mean test loss against trials. Policy, without a trial: {policy}."
    return f"{chart} Searches: {_listed(parts)}."


def matching_words(account: Account) -> str:
    """Of `matching_figure`."""
    parts = []
    for name, method in account.methods.items():
        once, never = float(np.mean(method.match == 1)), float(np.mean(method.match == 0))
        parts.append(f"{name} at once {share(once)}, later {share(1 - once - never)}, never {share(never)}")
    unit = account.unit
    return f"Bars of the share of {unit}s on which a search matches the policy's test loss: {_listed(parts)}."


def strengths_words(reading: PolicyReading, quantity: str) -> str:
    """Of `strengths_by_layer`."""
    title = quantity_title(quantity)
    value = shared_value(reading.strengths[quantity])
    if value is not None:
        return f"{title}: {compact(value)} for all parameter tensors."
    parts = [f"{level.name} {compact(level.value)}" for level in levels(reading.strengths[quantity])]
    return f"{title}, geometric mean by parameter tensor: {_listed(parts)}."


def first_layer_words(reading: PolicyReading, quantity: str) -> str:
    """Of `first_layer_image`; empty where there is none."""
    found = first_layer_pictures(reading, quantity)
    if found is None:
        return ""
    name, pictures, averaged = found
    channel, row, column = np.unravel_index(int(np.argmax(pictures)), pictures.shape)
    where = f"row {row}, column {column}" + (f" of channel {channel}" if len(pictures) > 1 else "")
    height, width = pictures.shape[1:]
    return (
        f"{quantity_title(quantity)} of {name} as a picture of {height} by {width} pixels ({averaged}): from "
        f"{compact(float(pictures.min()))} to {compact(float(pictures.max()))}, the highest at {where}."
    )


def schedule_words(reading: PolicyReading) -> str:
    """Of `schedule_figure`."""
    return " ".join(
        ["Line chart of the factor on the learning rate over the inner steps.", *schedule_in_words(reading.schedule)]
    )


def multipliers_words(reading: PolicyReading) -> str:
    """Of `multipliers_figure`."""
    sentences = multipliers_in_words(reading.multipliers)
    return " ".join(["Line charts of multipliers over the inner steps, by role.", *sentences])


def curvature_words(reading: PolicyReading) -> str:
    """Of `curvature_figure`."""
    parts = []
    for name, matrices in reading.matrices.items():
        mixed = max(float(np.abs(matrix - np.diag(np.diag(matrix))).max(initial=0.0)) for matrix in matrices)
        parts.append(f"{name} {compact(mixed)}")
    return f"Pictures of the matrices for the gradients. Largest entry off the diagonal: {_listed(parts)}."


def policy_words(comparison: Comparison) -> str:
    """The policy's own test loss with its interval."""
    return interval_words(mean_interval(by_member(comparison).methods[POLICY].loss))


def _listed(parts: Sequence[str]) -> str:
    """Separated by semicolons, since the parts have commas; the first few of many."""
    rest = len(parts) - MOST_NAMED
    shown = "; ".join(parts[:MOST_NAMED])
    return f"{shown}; and {rest} more" if rest > 0 else shown or "none"
