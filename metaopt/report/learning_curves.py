"""Test loss along the inner steps, for every method."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.statistics import mean_interval
from metaopt.report import style
from metaopt.report.headline import POLICY, task_words
from metaopt.report.numbers import distinct


def learning_curves(comparison: Comparison) -> Figure:
    """Mean test loss against the inner step, one line per method, with the band of its 95 % interval over tasks.

    Args:
        comparison: the outcomes. Points at which a method's loss is not finite on every task are left out of its line.

    Returns:
        A figure with one axes; y is logarithmic where the losses span decades.
    """
    figure = style.new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    comparison = by_member(comparison)
    names = list(comparison.methods)
    styles = style.method_styles(names)
    bands = {name: _band(method) for name, method in comparison.methods.items()}
    marker = "o" if len(comparison.curve_steps) <= 12 else None
    for name in sorted(names, key=lambda name: name == POLICY):  # the policy last, on top
        mean, low, high = bands[name]
        look = styles[name]
        axes.plot(
            comparison.curve_steps,
            mean,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=look.width,
            marker=marker,
            markersize=4.5,
            label=name,
        )
        axes.fill_between(comparison.curve_steps, low, high, color=look.colour, alpha=0.18, linewidth=0)
    style.dress(axes, f"Learning on {task_words(comparison)}", "inner step", "test loss")
    style.integer_ticks(axes)
    _scale(axes, bands)
    ends = {name: float(mean[-1]) for name, (mean, _, _) in bands.items() if np.isfinite(mean[-1])}
    texts = dict(zip(ends, distinct(list(ends.values())), strict=True)) if ends else {}
    last = float(comparison.curve_steps[-1])
    style.end_labels(
        axes,
        [
            style.End(last, end, f"{style.label(name)}  {texts[name]}", styles[name].colour)
            for name, end in ends.items()
        ],
    )
    return figure


def _band(method: MethodOutcome) -> np.ndarray:
    """Mean, lower and upper end over the tasks, [3, points]."""
    undefined = (np.nan, np.nan, np.nan)
    return np.array([mean_interval(c) if np.isfinite(c).all() else undefined for c in method.curve.T]).T


def _scale(axes: Axes, bands: dict[str, np.ndarray]) -> None:
    means = np.concatenate([mean for mean, _, _ in bands.values()])
    means = means[np.isfinite(means)]
    if len(means) and style.spans_decades(means.min(), means.max()):
        style.logarithmic(axes, "y", means.min() / 1.3, means.max() * 1.3)
