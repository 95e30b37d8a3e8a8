"""First-layer strengths laid out as the image that the layer looks at."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from metaopt.policies.reading import PolicyReading
from metaopt.report import style
from metaopt.report.numbers import compact
from metaopt.report.strengths import quantity_title

MOST_CHANNELS = 4


def first_layer_image(reading: PolicyReading, quantity: str) -> Figure | None:
    """The first weight's strengths as pictures: over the input's pixels, or over a convolution's kernel.

    A weight [out, channels * height * width] gives one picture per channel, each pixel the geometric mean over the
    output units; a weight [out, in, height, width] gives one picture of the kernel, averaged over outputs and inputs.

    Args:
        reading: what the policy has learned.
        quantity: "lr", "l2", "pull" or "init_std".

    Returns:
        A figure with a logarithmic colour bar; None where the inputs are no images, the first weight does not look at
        pixels, or its strengths are not per element, or not all positive and finite.
    """
    found = first_layer_pictures(reading, quantity)
    if found is None:
        return None
    name, pictures, averaged = found
    figure = style.new_figure(2.9 * len(pictures) + 1.5, 3.6)
    panels = figure.subplots(1, len(pictures), squeeze=False)[0]
    low, high = float(pictures.min()), float(pictures.max())
    if high < low * 1.01:  # a constant still needs a range of colours
        low, high = low / 1.5, high * 1.5
    norm = LogNorm(low, high)
    shown = None
    for channel, (axes, picture) in enumerate(zip(panels, pictures, strict=True)):
        shown = axes.imshow(picture, norm=norm, cmap="viridis", interpolation="nearest")
        axes.set_axis_off()
        if len(pictures) > 1:
            axes.set_title(f"channel {channel}", fontsize=style.MEDIUM, color=style.INK)
    assert shown is not None
    bar = figure.colorbar(shown, ax=list(panels), shrink=0.9, pad=0.03)
    narrow = math.log10(high / low) <= 1
    bar.ax.yaxis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if value > 1e-4 else compact(value, 1))
    )
    bar.ax.tick_params(labelsize=style.SMALL, color=style.GREY, labelcolor=style.INK)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    title = f"{quantity_title(quantity)} of {name}\n"
    figure.suptitle(title + averaged, fontsize=style.MEDIUM, color=style.INK, x=0.02, ha="left")
    return figure


def first_layer_pictures(reading: PolicyReading, quantity: str) -> tuple[str, np.ndarray, str] | None:
    """Name of the first weight, its pictures [pictures, height, width], and what they are means over.

    None where `first_layer_image` draws nothing.
    """
    tensors = list(reading.strengths.get(quantity, {}).items())
    weights = [(name, strengths) for name, strengths in tensors if strengths.ndim >= 2]
    if len(reading.input_shape) != 3 or not weights:
        return None
    name, strengths = weights[0]
    if not ((strengths > 0) & np.isfinite(strengths)).all():
        return None
    logs = np.log(strengths)
    if strengths.ndim == 2 and strengths.shape[1] == math.prod(reading.input_shape):
        channels = logs.mean(0).reshape(reading.input_shape)
        if len(channels) > MOST_CHANNELS:
            return name, np.exp(channels.mean(0, keepdims=True)), "geometric mean over units and channels"
        return name, np.exp(channels), "geometric mean over output units"
    if strengths.ndim == 4 and math.prod(strengths.shape[2:]) > 1:
        return name, np.exp(logs.mean((0, 1)))[None], "geometric mean over the kernels"
    return None
