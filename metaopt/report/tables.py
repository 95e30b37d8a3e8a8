"""The tables of the page: plain cells that a template writes and a script can sort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from metaopt.evaluation.statistics import Interval
from metaopt.report.numbers import compact, decimals_for, fixed

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is read.
        value: what it is sorted by; None: it comes last.
        below: a second, smaller line.
        verdict: "lower", "higher" or "undecided" colours the text; "" does not.
    """

    text: str
    value: float | str | None = None
    below: str = ""
    verdict: str = ""

    @property
    def key(self) -> str:
        """`value` as an attribute that JavaScript's Number reads, or the string itself; empty for None."""
        if self.value is None:
            return ""
        if isinstance(self.value, str):
            return self.value
        if math.isinf(self.value):
            return "Infinity" if self.value > 0 else "-Infinity"
        return f"{float(self.value):.8g}"


@dataclass(frozen=True)
class PageTable:
    """A table with a row per method, task or tensor, of which the first column names the row.

    Attributes:
        key: id on the page.
        caption: what it shows.
        titles: of the columns.
        rows: as many cells each as there are titles.
        note: how to read it.
    """

    key: str
    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


EMPTY = Cell(NONE)


def name_cell(name: str, description: str = "") -> Cell:
    """What a row is about."""
    return Cell(name, name, description)


def count_cell(count: float | None) -> Cell:
    """A number of trials, steps or tasks."""
    if count is None:
        return EMPTY
    whole = abs(count - round(count)) < 1e-9 and abs(count) < 1e7
    return Cell(f"{round(count):,}".replace(",", "\u202f") if whole else compact(count), count)


def share_cell(rate: float, text: str) -> Cell:
    """A share, written as `text`."""
    return Cell(text, rate)


def number_cell(value: float, digits: int = 3) -> Cell:
    """A number with so many significant digits."""
    return Cell(compact(value, digits), value)


def interval_cells(
    intervals: Sequence[Interval | None],
    spread: bool,
    sign: str = "",
    verdicts: Sequence[str] | None = None,
    decimals: int | None = None,
    unit: str = "",
) -> list[Cell]:
    """Each interval as its mean with its ends below, with as many decimals as the narrowest of them needs.

    Args:
        intervals: one per row; None becomes a dash.
        spread: whether there are ends to show: one unit has none.
        sign: "+" writes the plus of positive numbers.
        verdicts: one per row.
        decimals: None: chosen by the intervals' widths.
        unit: written after the mean, with its space.

    Returns:
        One cell per row.
    """
    widths = [(interval.high - interval.low) / 2 for interval in intervals if interval is not None]
    places = decimals_for(widths) if decimals is None else decimals
    cells = []
    for interval, verdict in zip(intervals, verdicts or [""] * len(intervals), strict=True):
        if interval is None:
            cells.append(EMPTY)
            continue
        ends = f"{fixed(interval.low, places)} to {fixed(interval.high, places)}"
        mean = fixed(interval.mean, places, sign)
        cells.append(Cell(mean + unit, interval.mean, ends if spread else "", verdict))
    return cells
