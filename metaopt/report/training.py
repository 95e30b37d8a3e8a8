"""How meta-training went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.report import style
from metaopt.report.numbers import compact


def meta_training_curves(records: Sequence[dict[str, Any]]) -> Figure:
    """Meta-train and meta-validation loss against the iteration, with the best validation marked.

    Args:
        records: rows of `metrics.jsonl`; those of kind "meta_train" and "meta_validation" are drawn. Of rows with the
            same kind and iteration the last counts: a resumed run repeats what followed its checkpoint.

    Returns:
        A figure with one axes: meta-train loss faint and smoothed, meta-validation loss with points, and a tick below
        for every iteration in which tasks were dropped.
    """
    figure = style.new_figure(7.2, 4.2)
    axes = figure.add_subplot()
    style.dress(axes, "Meta-training", "iteration", "loss on query sets")
    x, y = _series(records, "meta_train")
    vx, vy = _series(records, "meta_validation")
    if len(x):
        marker = "o" if len(x) <= 3 else None
        axes.plot(x, y, color=style.SKY, alpha=0.35, linewidth=1.0, label="_raw")
        axes.plot(
            x, _smoothed(y), color=style.SKY, linewidth=2.0, marker=marker, markersize=4.5, label="meta-train, smoothed"
        )
    if len(vx):
        axes.plot(vx, vy, "o-", color=style.BLUE, linewidth=2.0, markersize=4.5, label="meta-validation")
        best = int(np.argmin(vy))
        label = f"best: {compact(vy[best])} at iteration {vx[best]:.0f}"
        axes.plot(vx[best], vy[best], "*", color=style.ORANGE, markersize=14, markeredgecolor="white", label=label)
    _mark_dropped(axes, records)
    style.integer_ticks(axes)
    every = np.concatenate([y, vy])
    if len(every):
        if style.spans_decades(every.min(), every.max()):
            style.logarithmic(axes, "y", every.min() / 1.3, every.max() * 1.3)
        axes.legend(loc="upper right", frameon=False, fontsize=style.MEDIUM, labelcolor=style.INK)  # losses fall
    return figure


def _series(records: Sequence[dict[str, Any]], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations, ascending, and the finite losses of that kind."""
    losses = {r["iteration"]: r["loss"] for r in records if r.get("kind") == kind and r.get("loss") is not None}
    pairs = sorted((iteration, loss) for iteration, loss in losses.items() if np.isfinite(loss))
    values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Gaussian moving average; centred, so that it does not lag behind the validation curve."""
    width = max(len(values) / 50, 0.1)
    offsets = np.arange(-math.ceil(3 * width), math.ceil(3 * width) + 1)
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    reach = len(kernel) // 2

    def convolved(series: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(series, reach), kernel, mode="valid")

    return convolved(values) / convolved(np.ones_like(values))


def _mark_dropped(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    dropped = {r["iteration"]: r["dropped"] for r in records if r.get("kind") == "meta_train" and r.get("dropped")}
    if dropped:
        axes.plot(
            list(dropped),
            [0.015] * len(dropped),
            "|",
            color=style.RED,
            markersize=8,
            transform=axes.get_xaxis_transform(),
            label=f"{sum(dropped.values())} tasks dropped (not finite)",
        )
