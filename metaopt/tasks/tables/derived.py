"""More tasks out of the tables that there are: other columns as targets."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metaopt.tasks.tables.table import LEAST_OF_A_CLASS, BadTable, RowSizes, Table, check_rows, sift

BINS = (2, 2, 3, 5)
"""Classes that a column of numbers is cut into; which of these, its name decides."""
RARE = 0.02
"""Share of the rows below which a class is left out, with its rows."""


def derived(tables: Sequence[Table], sizes: RowSizes, most: int) -> list[Table]:
    """Classification tasks that predict a column of a table from the others, the table's own target left out.

    A column of categories is a target as it is, without classes that are too rare; one of numbers is cut at its
    quantiles. How well a column can be predicted differs from column to column, from not at all to exactly, which is
    what a policy has to learn to tell apart and a few tables do not show.

    Args:
        tables: where the columns come from; the derived tables stay in their groups.
        sizes: rows of a task.
        most: derived tables of each table, at most; of more columns, evenly spaced ones are taken.

    Returns:
        Those that can be tasks, named as "table:column".
    """
    chosen = [
        (table, int(column))
        for table in tables
        if len(table.columns) > 1
        for column in np.unique(np.linspace(0, len(table.columns) - 1, min(most, len(table.columns))).round())
    ]

    def made(origin: tuple[Table, int]) -> Table:
        table = _retargeted(*origin)
        check_rows(table, sizes)
        return table

    return sift(chosen, made, lambda origin: origin[0].name)[0]


def _retargeted(table: Table, column: int) -> Table:
    """The table with a column as its target, without the rows that have none.

    Raises:
        BadTable: the column does not vary.
    """
    target, about = table.x[:, column], table.columns[column]
    rows = np.flatnonzero(~np.isnan(target))
    values = target[rows]
    if not about.categories and len(np.unique(values)) > max(BINS):
        bins = BINS[zlib.crc32(f"{table.name}:{about.name}".encode()) % len(BINS)]
        values = np.searchsorted(np.quantile(values, np.arange(1, bins) / bins), values, side="right")
    labels, y, counts = np.unique(values, return_inverse=True, return_counts=True)
    common = counts >= max(LEAST_OF_A_CLASS, RARE * len(values))
    if common.sum() < 2:
        raise BadTable(f"has a column {about.name} that hardly varies")
    kept = common[y]
    others = [i for i in range(len(table.columns)) if i != column]
    return replace(
        table,
        name=f"{table.name}:{about.name}",
        columns=tuple(table.columns[i] for i in others),
        x=table.x[rows[kept]][:, others],
        y=np.cumsum(common)[y[kept]] - 1,
        classes=tuple(f"{label:g}" for label in labels[common]),
    )
