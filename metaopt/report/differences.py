"""Where the policy wins and where it loses, task by task."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison
from metaopt.evaluation.statistics import Paired, paired
from metaopt.report import style
from metaopt.report.headline import POLICY, task_words
from metaopt.report.numbers import share


def task_differences(comparison: Comparison) -> Figure:
    """For each baseline, every task's test loss minus the policy's, with the mean and its 95 % interval.

    Points right of zero are tasks on which the policy is better.

    Args:
        comparison: the outcomes; the method "policy" is among them.

    Returns:
        A figure with one axes and one row per baseline, in their order from the top.
    """
    comparison = by_member(comparison)
    policy = comparison.methods[POLICY]
    baselines = [method for name, method in comparison.methods.items() if name != POLICY]
    figure = style.new_figure(7.2, 1.5 + 0.85 * max(len(baselines), 1))
    axes = figure.add_subplot()
    title = f"{comparison.unit.capitalize()} by {comparison.unit} on {task_words(comparison)}"
    style.dress(axes, title, "the method's test loss − the policy's   (right of zero: the policy is better)", grid="x")
    axes.axvline(0.0, color=style.INK, linewidth=1.0, zorder=1)
    differences = [method.loss - policy.loss for method in baselines]
    _scale(axes, differences)
    for height, (method, difference) in enumerate(zip(baselines, differences, strict=True)):
        _draw(axes, height, difference, paired(method.loss, policy.loss), comparison)
    axes.set_yticks(range(len(baselines)), [style.label(method.name) for method in baselines], fontsize=style.MEDIUM)
    axes.set_ylim(max(len(baselines), 1) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _draw(axes: Axes, height: int, difference: np.ndarray, pair: Paired, comparison: Comparison) -> None:
    better = difference > 0
    heights = height + _swarm(_screen(axes, difference))
    size = 16 if len(difference) <= 300 else 6
    for chosen, colour in ((better, style.BLUE), (~better, style.RED)):
        axes.scatter(difference[chosen], heights[chosen], s=size, color=colour, alpha=0.55, linewidths=0, zorder=2)
    mean, low, high = pair.difference
    if comparison.n_tasks > 1:
        axes.plot([low, high], [height, height], color=style.INK, linewidth=2.4, zorder=3, label="interval")
    axes.plot(
        [mean], [height], "D", color="white", markeredgecolor=style.INK, markeredgewidth=1.6, markersize=6, zorder=4
    )
    axes.annotate(
        f"policy wins\n{share(pair.win_rate)} of {comparison.unit}s",
        xy=(1.015, height),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=style.SMALL,
        color=style.INK,
        annotation_clip=False,
    )


def _scale(axes: Axes, differences: list[np.ndarray]) -> None:
    """A scale that is linear around zero and logarithmic beyond where a few tasks would squeeze all others."""
    if not differences:
        return
    sizes = np.abs(np.concatenate(differences))
    middle = float(np.median(sizes))
    if middle > 0 and sizes.max() > 30 * middle:
        linear = 10.0 ** math.ceil(math.log10(middle))
        axes.set_xscale("symlog", linthresh=linear)
        axes.set_xlabel(f"{axes.get_xlabel()}\nlogarithmic beyond ±{linear:g}")


def _screen(axes: Axes, difference: np.ndarray) -> np.ndarray:
    return np.asarray(axes.xaxis.get_transform().transform(difference))


def _swarm(places: np.ndarray, bins: int = 60, reach: float = 0.36) -> np.ndarray:
    """Vertical offsets that stack neighbouring points symmetrically, so that the cloud's width is its density."""
    width = np.ptp(places) or 1.0
    bin_of = np.minimum(((places - places.min()) / width * bins).astype(int), bins - 1)
    offsets = np.zeros(len(places))
    fullest = int(np.bincount(bin_of).max())
    step = min(0.09, 2 * reach / max(fullest - 1, 1))
    for b in np.unique(bin_of):
        members = np.flatnonzero(bin_of == b)
        k = np.arange(len(members))
        offsets[members] = step * np.where(k % 2 == 0, -(k // 2), (k + 1) // 2)
    return offsets
