"""The look that all figures share. Nothing here touches matplotlib's global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator

from metaopt.report.headline import POLICY
from metaopt.report.numbers import compact
from metaopt.search.records import WARM

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#767676",
)
"""Okabe and Ito's colours, which stay apart for colour-blind eyes."""
INK, FAINT = "#333333", "#DDDDDD"
SMALL, MEDIUM, LARGE = 8.5, 10.0, 12.0


Colour: TypeAlias = "str | tuple[float, float, float, float]"


class LineStyle(NamedTuple):
    """How a method is drawn everywhere: told apart by colour and, for print without colours, by dashes.

    Attributes:
        colour: of line, band and label.
        dashes: matplotlib's line style.
        width: in points.
    """

    colour: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float


BASELINE_COLOURS = (ORANGE, GREEN, PURPLE, RED, SKY, GREY)
BASELINE_DASHES = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), ":")


def method_styles(names: Sequence[str]) -> dict[str, LineStyle]:
    """The policy thick and blue, the baselines in the order in which they come."""
    styles = {}
    for name in names:
        if name == POLICY:
            styles[name] = LineStyle(BLUE, "-", 2.6)
        else:
            index = (len(styles) - (POLICY in styles)) % len(BASELINE_COLOURS)
            styles[name] = LineStyle(BASELINE_COLOURS[index], BASELINE_DASHES[index], 1.5)
    return styles


def search_styles(names: Sequence[str]) -> dict[str, LineStyle]:
    """Searches in the order in which they come: a warm-started one in the colour of its cold twin, but dashed."""
    bases = list(dict.fromkeys(name.removesuffix(WARM) for name in names))
    colours = {base: BASELINE_COLOURS[index % len(BASELINE_COLOURS)] for index, base in enumerate(bases)}
    return {
        name: LineStyle(colours[name.removesuffix(WARM)], (0, (4, 1.5)) if name.endswith(WARM) else "-", 1.5)
        for name in names
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a canvas of its own and room made for all that is drawn."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str = "", x: str = "", y: str = "", grid: Literal["x", "y", "both"] = "both") -> None:
    """Title to the left, small grey ticks, no frame but the lower left corner, and a light grid behind the data."""
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=LARGE, color=INK)
    axes.set_xlabel(x, fontsize=MEDIUM, color=INK)
    axes.set_ylabel(y, fontsize=MEDIUM, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(which="both", labelsize=SMALL, color=GREY, labelcolor=INK)
    axes.set_axisbelow(True)
    axes.grid(True, axis=grid, color=FAINT, linewidth=0.7)


def label(name: str, most: int = 32) -> str:
    """A name as a figure has room for it, without its middle where it is longer than `most`; "$" is no mathematics."""
    short = name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - most // 2 + 1 :]}"
    return short.replace("$", r"\$")


def integer_ticks(axes: Axes) -> None:
    """Steps are whole numbers, and so are the ticks below them; call it when all is drawn."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(round(low) - 0.5, round(low) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10], min_n_ticks=1))


def spans_decades(low: float, high: float, factor: float = 20.0) -> bool:
    """Whether positive values from `low` to `high` are better seen on a logarithmic axis."""
    return 0 < low < math.inf and low * factor < high < math.inf


def logarithmic(axes: Axes, axis: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis from `low` to `high` (both positive) with tick labels that one can read at any range.

    Over many decades the ticks are powers of ten; over few, 1, 2 and 5 of each; within one, round numbers.
    """
    if axis == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        target = axes.xaxis
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        target = axes.yaxis
    decades = math.log10(high / low)
    target.set_minor_locator(NullLocator())
    if decades > 3:
        target.set_major_locator(LogLocator(numticks=8))
        target.set_major_formatter(LogFormatterSciNotation())
        return
    target.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=16) if decades > 1 else MaxNLocator(5))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value > 1e-4 else compact(value, 1)))


class End(NamedTuple):
    """The right end of a line, and what to write there.

    Attributes:
        x: its last x.
        y: its last y.
        text: the label.
        colour: of the label; the line's own.
    """

    x: float
    y: float
    text: str
    colour: Colour


def end_labels(axes: Axes, ends: Sequence[End], gap: float = 0.062) -> None:
    """Names beside the right ends of lines, moved apart where they would overlap and tied to their lines by hairs.

    Args:
        axes: the axes, with scale and limits of y already final.
        ends: the lines' ends, in any order.
        gap: least distance between labels, as a share of the axes' height.
    """
    transform = axes.yaxis.get_transform()
    low, high = (float(transform.transform(limit)) for limit in axes.get_ylim())
    ascending = sorted(ends, key=lambda end: end.y)
    wanted = [(float(transform.transform(end.y)) - low) / (high - low) for end in ascending]
    for end, place in zip(ascending, spread(wanted, gap), strict=True):
        axes.annotate(
            end.text,
            xy=(end.x, end.y),
            xytext=(1.02, place),
            textcoords="axes fraction",
            color=end.colour,
            fontsize=MEDIUM,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.6,
                "alpha": 0.5,
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0.0, 0.5),
            },
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places in [0, 1], moved as little as a least gap asks: neighbours that touch share their shift.

    A group that would stick out above or below is moved back in, as far as it fits.
    """

    def centred(centre: float, members: int) -> float:
        reach = gap * (members - 1) / 2
        return min(max(centre, reach), 1 - reach) if reach < 0.5 else 0.5

    groups: list[tuple[float, int]] = []  # (centre, members)
    for place in places:
        groups.append((centred(place, 1), 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (upper, m), (lower, n) = groups.pop(), groups.pop()
            groups.append((centred((upper * m + lower * n) / (m + n), m + n), m + n))
    return [centre + gap * (k - (n - 1) / 2) for centre, n in groups for k in range(n)]
