"""What a family of tables holds, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from metaopt.tasks.tables.overview import Overview, TableRow
from metaopt.tasks.tables.table import LeftOut
from metaopt.types import SPLITS

MOST_ROWS = 40
"""Tables that get a row each; where there are more, each split gets one."""
MOST_LEFT_OUT = 5
"""Of what is left out, what is named where there are so many."""


def overview_table(overview: Overview) -> Group:
    """The tables, what was inferred of them, and what was left out and why.

    Args:
        overview: of a family.

    Returns:
        To be printed by any rich console, a terminal's or not; it fits into 80 columns.
    """
    rows = overview.rows
    many = len(rows) > MOST_ROWS
    facts = [Text(f"{fact[0].upper()}{fact[1:]}.", "dim") for fact in overview.facts]
    left_out = _left_out(overview.left_out, MOST_LEFT_OUT if many else len(overview.left_out))
    return Group(_by_split(rows) if many else _by_table(rows), *facts, *left_out)


def _by_table(rows: Sequence[TableRow]) -> Table:
    table = _table("Task", "Split", "Rows", "Columns", "Target")
    notes = any(row.note for row in rows)
    if notes:
        table.add_column("Note")
    for row in rows:
        columns = f"{row.numbers} numbers" + (f", {row.categories} categories" if row.categories else "")
        cells = [Text(row.name, "bold"), row.split, str(row.rows), columns, Text(row.target)]
        table.add_row(*cells, *([Text(row.note)] if notes else []))
    return table


def _by_split(rows: Sequence[TableRow]) -> Table:
    table = _table("Split", "Tasks", "Rows", "Columns")
    for split in SPLITS:
        members = [row for row in rows if row.split == split]
        sizes = [row.rows for row in members]
        columns = [row.numbers + row.categories for row in members]
        table.add_row(
            Text(split, "bold"),
            str(len(members)),
            f"{min(sizes)} to {max(sizes)}",
            f"{min(columns)} to {max(columns)}",
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for title in titles:
        table.add_column(title, justify="right" if title in ("Rows", "Tasks") else "left", overflow="fold")
    return table


def _left_out(left_out: Sequence[LeftOut], most: int) -> list[Text]:
    lines = [Text(f"Left out: {table.name}: {table.reason}") for table in left_out[:most]]
    return [*lines, Text(f"Left out: {len(left_out) - most} more")] if len(left_out) > most else lines
