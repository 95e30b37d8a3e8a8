"""The matrices that gradients are multiplied with (Meta-Curvature)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from metaopt.policies.reading import PolicyReading
from metaopt.report import style

MODE_WORDS = ("outputs", "inputs", "kernel")
COLOURS = "RdBu_r"


def curvature_figure(reading: PolicyReading) -> Figure | None:
    """Each matrix as a picture, a row for each parameter tensor and a column for each of its modes.

    All share one range of colours around 0, as wide as all but the 1 % largest entries need, so that what was mixed in
    from other rows stands out against the diagonal of ones that learning began with.

    Args:
        reading: what the policy has learned.

    Returns:
        A figure with a colour bar; None when the policy has no matrices.
    """
    if not reading.matrices:
        return None
    columns = max(len(matrices) for matrices in reading.matrices.values())
    pitch = 1.15 if len(reading.matrices) <= 8 else 0.6
    figure = style.new_figure(2.2 + (pitch + 0.2) * columns, 0.9 + pitch * len(reading.matrices))
    panels = figure.subplots(len(reading.matrices), columns, squeeze=False)
    norm = _range(reading.matrices)
    for row, (name, matrices) in enumerate(reading.matrices.items()):
        for mode, axes in enumerate(panels[row]):
            if mode < len(matrices):
                axes.imshow(matrices[mode], norm=norm, cmap=COLOURS, interpolation="nearest")
            _label(axes, name if mode == 0 else "", MODE_WORDS[mode] if row == 0 else "", mode < len(matrices))
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=panels, pad=0.03, extend="both", aspect=30)
    bar.ax.tick_params(labelsize=style.SMALL, color=style.GREY, labelcolor=style.INK)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    figure.suptitle("Matrices for the gradients", fontsize=style.LARGE, color=style.INK, x=0.02, ha="left")
    return figure


def _range(matrices: dict[str, tuple[np.ndarray, ...]]) -> Normalize:
    sizes = np.abs(np.concatenate([matrix.ravel() for of_tensor in matrices.values() for matrix in of_tensor]))
    sizes = sizes[np.isfinite(sizes)]
    widest = float(np.quantile(sizes, 0.99)) if len(sizes) else 1.0
    return Normalize(-max(widest, 1e-6), max(widest, 1e-6))


def _label(axes: Axes, name: str, mode: str, shown: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(shown)
        spine.set_color(style.FAINT)
    axes.set_ylabel(style.label(name), fontsize=style.SMALL, color=style.INK, rotation=0, ha="right", va="center")
    axes.set_title(mode, fontsize=style.SMALL, color=style.GREY)
