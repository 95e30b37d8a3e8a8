"""A table that is a task: columns of numbers or of a few categories, and a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple, TypeVar, final

import numpy as np

from metaopt.errors import TaskError
from metaopt.types import Kind

T = TypeVar("T")
R = TypeVar("R")

LEAST_OF_A_CLASS = 3
"""Rows that every class of a table must have: one each for support, query and test."""


class BadTable(Exception):
    """A table cannot be a task; the text says what is wrong with it and what to do. Families catch it (`sift`)."""


class LeftOut(NamedTuple):
    """A table that is no task of a family.

    Attributes:
        name: of the table, or of its file.
        reason: what is wrong with it, and what to do.
    """

    name: str
    reason: str


class RowSizes(NamedTuple):
    """Rows of each set of a task; all tasks of a family have the same."""

    support: int
    query: int
    test: int


@dataclass(frozen=True)
class Column:
    """One column of inputs.

    Attributes:
        name: as the file says.
        categories: what the codes 0, 1, … stand for; empty for a column of numbers.
    """

    name: str
    categories: tuple[str, ...] = ()

    @property
    def one_hot(self) -> bool:
        """Whether it becomes one input per category. Two categories are one number, 0 or 1, which says as much."""
        return len(self.categories) > 2

    @property
    def width(self) -> int:
        """Inputs that it becomes."""
        return len(self.categories) if self.one_hot else 1


@final
@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: what the table is called; unique in its family.
        group: tables of one group hold the same data, in whole or in part, or data from one source, and stay in one
            split.
        columns: the columns of inputs.
        x: [rows, columns], float64: numbers, or codes of categories; NaN where a value is missing.
        y: [rows]: class indices (int64), or values (float64) for regression.
        classes: names of the classes in the order of their indices; empty for regression.
    """

    name: str
    group: str
    columns: tuple[Column, ...]
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Classification where there are classes."""
        return Kind.classification if self.classes else Kind.regression

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def width(self) -> int:
        """Inputs of the network once the columns are preprocessed; the same for every draw of rows."""
        return sum(column.width for column in self.columns)

    @cached_property
    def digest(self) -> str:
        """8 hex digits that change with the content, but not with how numbers were rounded beyond float32."""
        content = sha256(repr((self.columns, self.classes, self.x.shape)).encode())
        content.update(np.ascontiguousarray(self.x, dtype=np.float32).tobytes())
        content.update(np.ascontiguousarray(self.y, dtype=np.float32).tobytes())
        return content.hexdigest()[:8]


def check_sizes(family: str, sizes: Sequence[int | None]) -> None:
    """Make sure that each set of a task has rows, where its size is given.

    Raises:
        TaskError: one is less than 1.
    """
    for key, size in zip(RowSizes._fields, sizes, strict=True):
        if size is not None and size < 1:
            raise TaskError(f"{family}: tasks.{key} must be at least 1 row per task, but is {size}; raise it")


def check_rows(table: Table, sizes: RowSizes) -> None:
    """Make sure that tasks of these sizes can be drawn from a table.

    Raises:
        BadTable: it has too few rows, all its targets are equal, or a class is too rare or has no row in the support
            set.
    """
    needed = sum(sizes)
    if table.rows < needed:
        raise BadTable(
            f"has {table.rows} rows, but a task needs {needed} (tasks.support={sizes.support} + tasks.query="
            f"{sizes.query} + tasks.test={sizes.test}); add rows, or lower these"
        )
    check_targets(table.y, table.classes)
    if len(table.classes) > sizes.support:
        raise BadTable(
            f"has {len(table.classes)} classes, but only {sizes.support} rows of a task are trained on, which must "
            "show them all; raise tasks.support"
        )


def check_targets(y: np.ndarray, classes: Sequence[str]) -> None:
    """Make sure that there is something to learn.

    Args:
        y: as in a table.
        classes: as in a table.

    Raises:
        BadTable: all targets are equal, or a class is too rare.
    """
    if not classes:
        if np.ptp(y) == 0:
            raise BadTable(f"has the target {y[0]:g} in every row; a task needs targets that differ")
        return
    if len(classes) < 2:
        raise BadTable(f"has one class only, {classes[0]}; a task needs two or more")
    counts = np.bincount(y, minlength=len(classes))
    rare = [name for name, count in zip(classes, counts, strict=True) if count < LEAST_OF_A_CLASS]
    if rare:
        raise BadTable(
            f"has fewer than {LEAST_OF_A_CLASS} rows of class {named(rare)}; add some, remove them, or join classes"
        )


def sift(items: Iterable[T], use: Callable[[T], R], name: Callable[[T], str]) -> tuple[list[R], list[LeftOut]]:
    """What can be made of each item, and the items of which nothing can.

    Args:
        items: tables, or what is to become one.
        use: raises BadTable where an item cannot be used.
        name: what to call an item.
    """
    made: list[R] = []
    left_out = []
    for item in items:
        result = _tried(use, item)
        if isinstance(result, BadTable):
            left_out.append(LeftOut(name(item), str(result)))
        else:
            made.append(result)
    return made, left_out


def listed(left_out: Sequence[LeftOut], most: int = 4) -> str:
    """What was left out and why, in one sentence; empty where nothing was."""
    if not left_out:
        return ""
    more = f"; and {len(left_out) - most} more" if len(left_out) > most else ""
    return "left out: " + "; ".join(f"{table.name} {table.reason}" for table in left_out[:most]) + more


def named(names: Sequence[str], most: int = 4) -> str:
    """Names with commas, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _tried(use: Callable[[T], R], item: T) -> R | BadTable:
    try:
        return use(item)
    except BadTable as error:
        return error
