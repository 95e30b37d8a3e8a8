"""A user's own tables, a task each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from metaopt.errors import TaskError
from metaopt.tasks.tables.content import by_content, same_content
from metaopt.tasks.tables.folder_reading import DEFAULT_TARGET, Reading, read_tables
from metaopt.tasks.tables.folder_tables import settle
from metaopt.tasks.tables.overview import Overview, overview_of
from metaopt.tasks.tables.table import LeftOut, RowSizes, Table, check_rows, check_sizes, named, sift
from metaopt.tasks.tables.table_sampler import TableSampler
from metaopt.tasks.tables.table_splits import SplitSettings, divide
from metaopt.types import Kind, Split, TaskBatch

LEAST_ROWS = 12
"""Rows that every table needs where the sizes are inferred."""
LEAST_TABLES = 3
"""One for each split."""
INFERRED = (("support", 2, 64), ("query", 1, 64), ("test", 1, 128))
"""Parts of the smallest table that a set gets, and most rows of it, where its size is inferred."""


@final
class Folder:
    """Tasks from a folder of tables: each is some rows of one table, to train on, and other rows to predict.

    A file is a task: `.npz` with the arrays x [rows, columns] and y [rows], or `.csv`, `.tsv` or `.parquet` with names
    of columns. Or, with `group`, each value of that column is a task, whatever file it is in. How columns become inputs
    is told by `settle` and `preprocess.fit`, how tasks are drawn by `TableSampler`.

    Splits are by table. Tables that share most of their rows stay in one split.

    Args:
        path: the folder; with `group`, also a single file.
        target: the column to predict; null: the one called "target", and y in .npz files.
        group: the column that says which rows are a task; null: each file is one.
        kind: `classification` or `regression`; null: inferred from the targets (`settle`).
        support: rows of a task that the inner loop trains on; null: half of the smallest table, at most 64.
        query: rows of a task for the outer loss; null: a quarter, at most 64.
        test: rows of a task for the final comparison; null: a quarter, at most 128.
        one_hot: most categories of a column. Texts are categories, and so are whole numbers that take three or more
            different values; they become one input for each.
        drop: columns to leave out, such as names and identifiers.
        on_bad_task: `error`: stop if a table cannot be used; `skip`: go on without it.
        validation_share: share of the tables in meta-validation.
        test_share: share of the tables in meta-test.
        meta_train: names of the tables that lie in meta-train; null: whatever the shares and the seed say.
        meta_validation: likewise.
        meta_test: likewise.
        split_seed: decides which tables lie in which split; independent of every other seed.

    Attributes:
        splits: by split, the names of its tables.
        left_out: tables that are not used, and why.

    Raises:
        TaskError: a setting is impossible, a table cannot be used (all that are wrong are named), or fewer than three
            tables are left.
        DataError: the folder is not there, or holds no tables.
    """

    def __init__(
        self,
        path: str = "tasks",
        target: str | None = None,
        group: str | None = None,
        kind: str | None = None,
        support: int | None = None,
        query: int | None = None,
        test: int | None = None,
        one_hot: int = 8,
        drop: Sequence[str] = (),
        on_bad_task: str = "error",
        validation_share: float = 0.15,
        test_share: float = 0.25,
        meta_train: list[str] | None = None,
        meta_validation: list[str] | None = None,
        meta_test: list[str] | None = None,
        split_seed: int = 0,
    ) -> None:
        self.name = "folder"
        given_sizes = (support, query, test)
        check_sizes(self.name, given_sizes)
        _check_choices(kind, on_bad_task, one_hot)
        found = read_tables(path, Reading(target, group, drop, one_hot, _least_rows(given_sizes)))
        settled = settle(found.tables, None if kind is None else Kind(kind), one_hot)
        sources = {raw.name: raw.source for raw in found.tables}
        tables, sizes, unfit = _with_sizes(settled.tables, given_sizes, sources)
        bad = found.bad + settled.bad + unfit
        _check_bad(bad, len(tables), on_bad_task)
        given: dict[Split, list[str] | None] = {
            "meta_train": meta_train,
            "meta_validation": meta_validation,
            "meta_test": meta_test,
        }
        settings = SplitSettings((validation_share, test_share), split_seed, given)
        divided = divide(self.name, by_content(tables, with_targets=True), settings, "add tables")
        self.splits = divided.names
        self.split_hash = divided.hash
        self.left_out = bad + divided.left_out
        self._tables = divided.tables
        self._sizes = sizes
        self._facts = (
            *settled.facts,
            _goal_words(target, group),
            *_size_words(tables, given_sizes),
            *_ignored_words(found.ignored),
        )
        self._notes = settled.notes
        self._sampler = TableSampler(divided.tables, sizes)
        self.spec = self._sampler.spec

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks; see `TableSampler.sample`."""
        return self._sampler.sample(split, n, generator)

    def members_of(self, split: Split, n: int, generator: torch.Generator) -> list[str]:
        """The table of each task that `sample` draws with the same arguments."""
        return self._sampler.members_of(split, n, generator)

    def overview(self) -> Overview:
        """What there is and what was inferred, to be shown before training."""
        return overview_of(self._tables, self._sizes, self.left_out, self._facts, self._notes)


def _check_choices(kind: str | None, on_bad_task: str, one_hot: int) -> None:
    kinds = [known.value for known in Kind]
    if kind is not None and kind not in kinds:
        raise TaskError(f"folder: tasks.kind is {kind!r}; choose one of {', '.join(kinds)}, or null to infer it")
    if on_bad_task not in ("error", "skip"):
        raise TaskError(f"folder: tasks.on_bad_task is {on_bad_task!r}; choose one of error, skip")
    if one_hot < 2:
        raise TaskError(f"folder: tasks.one_hot must be at least 2 categories, but is {one_hot}; raise it")


def _least_rows(given: Sequence[int | None]) -> int:
    """Rows that every table needs: what is given, and enough to infer the rest."""
    needed = sum(size or 1 for size in given)
    return max(LEAST_ROWS, needed) if None in given else needed


def _with_sizes(
    tables: Sequence[Table], given: Sequence[int | None], sources: dict[str, str]
) -> tuple[list[Table], RowSizes, list[LeftOut]]:
    """The tables that tasks can be drawn from, the sizes of a task, and the tables that do not do or come twice."""
    sizes = infer_sizes(min((table.rows for table in tables), default=LEAST_ROWS), given)

    def usable(table: Table) -> Table:
        check_rows(table, sizes)
        return table

    fit, unfit = sift(tables, usable, lambda table: sources[table.name])
    copies = {copy.name: original.name for copy, original in same_content(fit)}
    twice = [LeftOut(sources[c], f"holds the same rows as {sources[o]}; remove one of them") for c, o in copies.items()]
    return [table for table in fit if table.name not in copies], sizes, unfit + twice


def infer_sizes(rows: int, given: Sequence[int | None]) -> RowSizes:
    """Rows of each set of a task.

    Args:
        rows: of the smallest table.
        given: sizes that are set; None: to be inferred from the rows that the others leave, at least 1.
    """
    left = rows - sum(size or 0 for size in given)
    parts = sum(part for (_, part, _), size in zip(INFERRED, given, strict=True) if size is None)
    inferred = [
        min(most, max(1, left * part // parts)) if size is None else size
        for (_, part, most), size in zip(INFERRED, given, strict=True)
    ]
    return RowSizes(*inferred)


def _check_bad(bad: Sequence[LeftOut], left: int, on_bad_task: str) -> None:
    lines = "".join(f"\n  {table.name}: {table.reason}" for table in bad)
    if bad and on_bad_task == "error":
        raise TaskError(
            f"folder: {len(bad)} of the tables cannot be used; mend them, or go on without them with "
            f"tasks.on_bad_task=skip:{lines}"
        )
    if left < LEAST_TABLES:
        raise TaskError(
            f"folder: {left} tables can be used, but {LEAST_TABLES} are needed, one for each split; add tables"
            f"{', or mend those that cannot be used:' if bad else ''}{lines}"
        )


def _goal_words(target: str | None, group: str | None) -> str:
    column = target or f"{DEFAULT_TARGET} (tasks.target changes it)"
    return f"target column: {column}" + (f"; a task for each {group}" if group else "")


def _size_words(tables: Sequence[Table], given: Sequence[int | None]) -> list[str]:
    smallest = min(tables, key=lambda table: table.rows)
    return [f"sizes of a task follow the smallest table, {smallest.name}"] if None in given else []


def _ignored_words(ignored: Sequence[str]) -> list[str]:
    return [f"no tables, and ignored: {named(ignored)}"] if ignored else []
