"""The learned schedule over the inner steps."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from metaopt.policies.reading import PolicyReading
from metaopt.report import style

MOST_LABELS = 12


def schedule_figure(reading: PolicyReading) -> Figure | None:
    """The factor on the learning rate against the inner step, one line for each schedule.

    Args:
        reading: what the policy has learned.

    Returns:
        A figure with one axes; None when the policy has no schedule. Lines of many tensors are coloured by depth.
    """
    if not reading.schedule:
        return None
    figure = style.new_figure(7.2, 4.0)
    axes = figure.add_subplot()
    names = list(reading.schedule)
    depths = np.linspace(0.0, 0.88, len(names))  # viridis without its faintest yellow
    colours = [style.BLUE] if len(names) == 1 else [colormaps["viridis"](depth) for depth in depths]
    for (name, factors), colour in zip(reading.schedule.items(), colours, strict=True):
        steps = np.arange(len(factors))
        marker = "o" if len(factors) <= 12 else None
        axes.plot(steps, factors, color=colour, linewidth=2.0, marker=marker, markersize=5, label=name or "all tensors")
    axes.axhline(1.0, color=style.GREY, linewidth=0.9, linestyle=":", zorder=0, label="_one")
    style.dress(axes, "Schedule s: factor on the learning rate", "inner step", "factor")
    style.integer_ticks(axes)
    every = np.concatenate([np.ones(1), *reading.schedule.values()])
    every = every[np.isfinite(every)]
    if style.spans_decades(every.min(), every.max(), 10.0):
        style.logarithmic(axes, "y", every.min() / 1.2, every.max() * 1.2)
    else:
        axes.set_ylim(0.0, every.max() * 1.08)
    if 1 < len(names) <= MOST_LABELS:
        ends = [
            style.End(len(s) - 1, float(s[-1]), style.label(name), colour)
            for (name, s), colour in zip(reading.schedule.items(), colours, strict=True)
        ]
        style.end_labels(axes, ends)
    elif len(names) > MOST_LABELS:
        bar = figure.colorbar(ScalarMappable(Normalize(0, len(names) / 0.88), "viridis"), ax=axes, pad=0.02)
        bar.ax.set_ylim(0, len(names))
        bar.set_ticks([0, len(names)], labels=[style.label(names[0]), style.label(names[-1])], fontsize=style.SMALL)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure
