"""A user's own tables from disk: one file per task, or one column that says which rows are a task."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metaopt.errors import DataError, TaskError
from metaopt.tasks.tables.columns import Values, is_text, missing, present, rows_words, strays, texts_of, values_of
from metaopt.tasks.tables.table import BadTable, LeftOut, named, sift
from metaopt.tasks.tables.table_files import SUFFIXES, read_file

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_TARGET = "target"
_NOTHING_MORE = re.compile(r"^(-?[0-9]+)\.0$|^([0-9]{4}-[0-9]{2}-[0-9]{2}) 00:00:00$")
"""A whole number or a day, and what it ends with where its column is one of floats or of times."""


@dataclass(frozen=True)
class Reading:
    """What to read from a file.

    Attributes:
        target: name of the target column; None: "target".
        group: name of the column that says which rows are a task; None: a file is a task.
        drop: columns to leave out.
        one_hot: most categories of a column of text.
        least_rows: fewest rows of a table.
    """

    target: str | None
    group: str | None
    drop: Sequence[str]
    one_hot: int
    least_rows: int


@dataclass(frozen=True)
class RawTable:
    """A table as it was read, before it is compared with the others.

    Attributes:
        name: of the task: the file's name without its ending, or the value of the group column.
        source: what to call it in errors: the file's name, or the value of the group column.
        inputs: by name, the columns.
        target: what is to be predicted; nothing of it is missing.
    """

    name: str
    source: str
    inputs: dict[str, Values]
    target: Values


class Found(NamedTuple):
    """What is in a folder or file.

    Attributes:
        tables: those that could be read.
        bad: those that could not, and why.
        ignored: names of files that are no tables.
    """

    tables: list[RawTable]
    bad: list[LeftOut]
    ignored: list[str]


class _Frame(NamedTuple):
    """A file, or the rows of a group: its name, its source, and the target column where the format says it."""

    name: str
    source: str
    data: pd.DataFrame
    target: str | None


def read_tables(path: str | Path, reading: Reading) -> Found:
    """All tables of a folder, or of one file with a group column.

    Args:
        path: a folder with .npz (arrays x [rows, columns] and y [rows]), .csv, .tsv or .parquet files; or, where a
            group column is named, such a file.
        reading: what to read.

    Raises:
        DataError: there is no such folder or file, or no table in it.
        TaskError: a file was given without a group column, or a column to leave out is in no table.
    """
    path = Path(path).expanduser()
    files, ignored = _files(path, reading)
    frames, bad = _frames(files, reading.group)
    _check_drop(frames, reading.drop)
    if reading.group is not None:
        frames, without = _grouped(frames, reading.group)
        bad += without
    tables, unusable = sift(frames, lambda frame: _raw_table(frame, reading), lambda frame: frame.source)
    return Found(tables, bad + unusable, ignored)


def _files(path: Path, reading: Reading) -> tuple[list[Path], list[str]]:
    """The files with tables, and the names of the others."""
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        if reading.group is None:
            raise TaskError(
                f"folder: tasks.path={path} is one file, so tasks.group=COLUMN must say which rows are a task; or give "
                "a folder with a file for each task"
            )
        return [path], []
    wanted = f"give a folder with {', '.join(SUFFIXES)} files"
    if not path.is_dir():
        raise DataError(f"folder: tasks.path={path} is no folder{'' if path.exists() else ', nor a file'}; {wanted}")
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in visible if entry.suffix.lower() in SUFFIXES]  # also links to nothing, to be named
    others = [entry.name for entry in visible if entry not in files and entry.is_file()]
    if not files:
        raise DataError(f"folder: tasks.path={path} holds {named(others) or 'no file'}, but no table; {wanted}")
    return files, others


def _frames(files: Sequence[Path], group: str | None) -> tuple[list[_Frame], list[LeftOut]]:
    """The files, and those that cannot be read."""
    first: dict[str, str] = {}
    for path in files:
        first.setdefault(path.stem.casefold(), path.name)

    def read(path: Path) -> _Frame:
        if first[path.stem.casefold()] != path.name:
            raise BadTable(
                f"has the same name as {first[path.stem.casefold()]}, and names tell tasks apart; rename or remove one"
            )
        return _Frame(path.stem, path.name, *read_file(path, group))

    return sift(files, read, lambda path: path.name)


def _check_drop(frames: Sequence[_Frame], drop: Sequence[str]) -> None:
    known = sorted({column for frame in frames for column in frame.data.columns})
    for column in drop:
        if frames and column not in known:
            raise TaskError(
                f"folder: tasks.drop names {column!r}, which no table has; columns are {named(known, 12)}; mend it"
            )


def _grouped(frames: Sequence[_Frame], group: str) -> tuple[list[_Frame], list[LeftOut]]:
    """The tables of the group column's values, over all files; and the files and rows that belong to none."""
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables need it

    def keys_of(frame: _Frame) -> tuple[_Frame, Values]:
        if group not in frame.data.columns:
            columns = named(list(frame.data.columns), 12)
            raise BadTable(f"has no column {group!r} (tasks.group); its columns are {columns}")
        return frame, _keys(frame.data[group])

    with_keys, bad = sift(frames, keys_of, lambda frame: frame.source)
    parts: dict[str, list[pd.DataFrame]] = {}
    for frame, keys in with_keys:
        nowhere = missing(keys)
        if nowhere:
            reason = f"has no {group} in {rows_words(nowhere)}; fill it in, or remove these rows"
            bad.append(LeftOut(frame.source, reason))
        for key in dict.fromkeys(present(keys)):
            parts.setdefault(key, []).append(frame.data.loc[keys == key].drop(columns=group))
    tables = [_Frame(key, key, pd.concat(pieces, ignore_index=True), None) for key, pieces in sorted(parts.items())]
    return tables, bad


def _keys(column: pd.Series) -> Values:
    """The values of the group column as texts, each different one of its own, the same from every kind of file."""
    keys = texts_of(column, f"column {column.name}")
    return np.array([None if key is None else _NOTHING_MORE.sub(r"\1\2", key) for key in keys], dtype=object)


def _raw_table(frame: _Frame, reading: Reading) -> RawTable:
    """Checks all that can be checked without the other tables, and says all that is wrong at once."""
    target = frame.target or reading.target or DEFAULT_TARGET
    names = [name for name in frame.data.columns if name != target and name not in reading.drop]
    problems = [] if names else ["has no column of inputs; add one"]
    rows = len(frame.data)
    if rows < reading.least_rows:
        problems.append(
            f"has {rows} rows, but at least {reading.least_rows} are needed for support, query and test; add rows"
        )

    def noted(use: Callable[[], Values]) -> Values:
        try:
            return use()
        except BadTable as error:
            problems.append(str(error))
            return np.empty(0)

    goal = noted(lambda: _target(frame.data, target))
    inputs = {name: noted(lambda name=name: _input(frame.data, name, reading.one_hot)) for name in names}
    if problems:
        raise BadTable("; ".join(problems))
    return RawTable(frame.name, frame.source, inputs, goal)


def _target(data: pd.DataFrame, name: str) -> Values:
    if name not in data.columns:
        columns = named(list(data.columns), 12)
        raise BadTable(f"has no column {name!r} to predict; its columns are {columns}; set tasks.target=COLUMN")
    values = values_of(data[name], f"the target {name}")
    absent = missing(values)
    if absent:
        raise BadTable(f"has no target in {rows_words(absent)}; fill it in, or remove these rows")
    return values


def _input(data: pd.DataFrame, name: str, one_hot: int) -> Values:
    values = values_of(data[name], f"column {name}")
    _check_text(values, name, one_hot)
    return values


def _check_text(values: Values, column: str, one_hot: int) -> None:
    if not is_text(values):
        return
    distinct = len(set(present(values)))
    if distinct <= one_hot:
        return
    odd = strays(values)
    if 2 * len(odd) <= len(present(values)):
        raise BadTable(
            f"column {column} holds numbers, but {values[odd[0]]!r} in {rows_words(odd)}; mend or empty them"
        )
    raise BadTable(
        f"column {column} holds {distinct} different texts, as names and identifiers do, and cannot be used; "
        f"leave it out with tasks.drop=[{column}], or raise tasks.one_hot to {distinct}"
    )
