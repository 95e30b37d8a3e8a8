"""What a family of tables holds, for people to look at before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from metaopt.tasks.tables.table import LeftOut, RowSizes, Table, named
from metaopt.types import Kind, Split


class TableRow(NamedTuple):
    """One table.

    Attributes:
        name: of the table.
        split: where it lies.
        rows: number of rows.
        numbers: columns that are numbers.
        categories: columns that are categories.
        target: the classes with their numbers of rows, or the range.
        note: what a user should know; may be empty.
    """

    name: str
    split: Split
    rows: int
    numbers: int
    categories: int
    target: str
    note: str


class Overview(NamedTuple):
    """All of a family.

    Attributes:
        facts: what was inferred or set, a sentence each.
        rows: the tables, split by split.
        left_out: tables that are no tasks, and why.
    """

    facts: tuple[str, ...]
    rows: tuple[TableRow, ...]
    left_out: tuple[LeftOut, ...]


@runtime_checkable
class WithOverview(Protocol):
    """A family that can say what it holds; commands print it before they train."""

    def overview(self) -> Overview:
        """What there is."""
        ...


def overview_of(
    tables: Mapping[Split, Sequence[Table]],
    sizes: RowSizes,
    left_out: Sequence[LeftOut],
    facts: Sequence[str] = (),
    notes: Mapping[str, str] | None = None,
) -> Overview:
    """The overview of divided tables.

    Args:
        tables: by split, its tables.
        sizes: rows of a task.
        left_out: tables that are no tasks, and why.
        facts: what else to say of all of them, first.
        notes: what to say of a table, by its name.
    """
    everything = [table for members in tables.values() for table in members]
    sizes_words = f"each task: {sizes.support} rows to train on (support), {sizes.query} query, {sizes.test} test"
    groups: dict[str, list[str]] = {}
    for table in everything:
        groups.setdefault(table.group, []).append(table.name)

    def note(table: Table) -> str:
        relatives = [name for name in groups[table.group] if name != table.name]
        related = f"same data or source as {named(relatives)}" if relatives else ""
        return "; ".join(words for words in ((notes or {}).get(table.name, ""), related) if words)

    rows = [_row(table, split, note(table)) for split, members in tables.items() for table in members]
    return Overview((*facts, sizes_words), tuple(rows), tuple(left_out))


def _row(table: Table, split: Split, note: str) -> TableRow:
    categories = sum(1 for column in table.columns if column.categories)
    return TableRow(
        table.name, split, table.rows, len(table.columns) - categories, categories, _goal_words(table), note
    )


def _goal_words(table: Table) -> str:
    if table.kind is Kind.regression:
        return f"{table.y.min():.4g} to {table.y.max():.4g}"
    counts = [int((table.y == label).sum()) for label in range(len(table.classes))]
    if len(counts) > 4:
        return f"{len(counts)} classes of {min(counts)} to {max(counts)} rows"
    return ", ".join(f"{name} ({count})" for name, count in zip(table.classes, counts, strict=True))
