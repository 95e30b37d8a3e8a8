"""Cells of the terminal's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from metaopt.evaluation.statistics import Interval
from metaopt.report.numbers import decimals_for, fixed

NONE = "–"
VERDICT_STYLES = {"lower": "green", "higher": "red", "undecided": ""}


class Column(NamedTuple):
    """A column of the table before rich sees it.

    Attributes:
        title: what stands above it.
        cells: one per method.
    """

    title: str
    cells: list[Text]


def interval_cells(
    intervals: Sequence[Interval | None],
    spread: bool,
    sign: str = "",
    styles: Sequence[str] | None = None,
    decimals: int | None = None,
    unit: str = "",
) -> list[Text]:
    """Each interval as its mean with "± half-width" below.

    Args:
        intervals: one per row; None becomes a dash.
        spread: whether there are half-widths to show.
        sign: "+" writes the plus of positive means.
        styles: rich's style of each mean.
        decimals: of means; None: as many as the narrowest interval needs.
        unit: written after every number, with its space.

    Returns:
        One cell per interval.
    """
    widths = [(interval.high - interval.low) / 2 for interval in intervals if interval is not None]
    places = decimals_for(widths) if decimals is None else decimals
    cells = []
    for interval, style in zip(intervals, styles or [""] * len(intervals), strict=True):
        if interval is None:
            cells.append(Text(NONE))
            continue
        mean = fixed(interval.mean, places, sign)
        cell = Text(mean + unit, style)
        cells.append(
            cell.append(f"\n±{fixed((interval.high - interval.low) / 2, len(mean.partition('.')[2]))}{unit}", "dim")
            if spread
            else cell
        )
    return cells
