"""Tables of the Penn Machine Learning Benchmarks (Olson et al., 2017; Romano et al., 2022), from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metaopt.errors import DataError
from metaopt.tasks.tables.columns import category_names, encode, names_of, values_of
from metaopt.tasks.tables.relatives import group_of
from metaopt.tasks.tables.table import BadTable, Column, LeftOut, Table, sift
from metaopt.types import Kind

if TYPE_CHECKING:
    import pandas as pd

INDICES = ("index.tsv", "all_summary_stats.tsv", "pmlb/all_summary_stats.tsv")
PLACES = ("datasets/{0}.tsv.gz", "datasets/{0}/{0}.tsv.gz", "{0}/{0}.tsv.gz", "{0}.tsv.gz")
TARGET = "target"


@dataclass(frozen=True)
class Filter:
    """Which tables to take, by what is known before they are read; None: any.

    Attributes:
        kind: classification or regression.
        names: these tables only.
        min_rows: fewest rows.
        max_rows: most rows.
        max_columns: most columns of inputs.
        max_classes: most classes.
    """

    kind: Kind
    names: Sequence[str] | None = None
    min_rows: int | None = None
    max_rows: int | None = None
    max_columns: int | None = None
    max_classes: int | None = None

    def objection(self, rows: int, columns: int, classes: int) -> str | None:
        """Why a table of this size is not taken; None where it is."""
        if rows < (self.min_rows or 0):
            return f"has {rows} rows; lower tasks.min_rows={self.min_rows}"
        if self.max_rows is not None and rows > self.max_rows:
            return f"has {rows} rows; raise tasks.max_rows={self.max_rows}"
        if self.max_columns is not None and columns > self.max_columns:
            return f"has {columns} columns; raise tasks.max_columns={self.max_columns}"
        if self.max_classes is not None and classes > self.max_classes:
            return f"has {classes} classes; raise tasks.max_classes={self.max_classes}"
        return None


class _Entry(NamedTuple):
    """A table as the index has it."""

    name: str
    kind: str
    rows: int
    columns: int
    classes: int


def read_pmlb(root: str | Path, wanted: Filter, one_hot: int, download: bool) -> tuple[list[Table], list[LeftOut]]:
    """The tables that a filter takes.

    The folder is a clone of PMLB's repository, the cache of the `pmlb` package, or `index.tsv` (columns dataset, task,
    n_instances, n_features, n_classes) with `datasets/NAME.tsv.gz`.

    Args:
        root: the folder.
        wanted: the filter.
        one_hot: most categories of a column of whole numbers that is not used as a number.
        download: whether to fetch what is missing with the `pmlb` package, into `root`.

    Returns:
        The tables in the order of the index, and those of this kind that are left out.

    Raises:
        DataError: there is no index, a name is not in it or is of the other kind, or a file is damaged.
    """
    root = Path(root).expanduser()
    index = _read_index(root, download)
    _check_names(index, wanted)

    def read(entry: _Entry) -> Table:
        objection = wanted.objection(entry.rows, entry.columns, entry.classes)
        if objection is not None:
            raise BadTable(objection)
        return table_from(entry.name, _read_file(root, entry.name, download), wanted.kind, one_hot)

    chosen = [e for e in index if e.kind == wanted.kind.value and (wanted.names is None or e.name in wanted.names)]
    return sift(chosen, read, lambda entry: entry.name)


def table_from(name: str, frame: pd.DataFrame, kind: Kind, one_hot: int) -> Table:
    """A table on its own, with the group that its name says.

    Args:
        name: of the table.
        frame: its columns, one of them called "target".
        kind: what the target is.
        one_hot: most categories of a column.

    Raises:
        BadTable: a column cannot be used, or a target is missing.
    """
    inputs = {column: values_of(frame[column], f"column {column}") for column in frame.columns if column != TARGET}
    columns = tuple(Column(column, category_names([values], one_hot)) for column, values in inputs.items())
    x = np.column_stack([encode(values, column) for values, column in zip(inputs.values(), columns, strict=True)])
    target = values_of(frame[TARGET], "the target")
    if target.dtype == object or np.isnan(target).any():
        raise BadTable("has targets that are missing or no numbers")
    if kind is Kind.regression:
        return Table(name, group_of(name), columns, x, target)
    labels, y = np.unique(target, return_inverse=True)
    return Table(name, group_of(name), columns, x, y.astype(np.int64), tuple(names_of(labels.tolist())))


def _read_index(root: Path, download: bool) -> list[_Entry]:
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables need it

    path = next((root / place for place in INDICES if (root / place).is_file()), None)
    if path is None and download:
        path = _packaged_index()
    if path is None:
        raise DataError(
            f"tabular: tasks.root={root} must be a folder with PMLB's tables, but holds none of {', '.join(INDICES)}; "
            "give the folder of a clone of its repository, or fetch tables there with tasks.download=true "
            "(pip install pmlb)"
        )
    try:
        index = pd.read_csv(path, sep="\t")
        kinds = index["task"].astype(str)
        sizes = index[["n_instances", "n_features", "n_classes"]].fillna(0).astype(int)
        names = index["dataset"].astype(str)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"tabular: {path} must be a table with the columns dataset, task, n_instances, n_features and n_classes, "
            f"but is not ({error}); get it again"
        ) from error
    return [
        _Entry(name, kind, rows, columns, classes if kind == Kind.classification.value else 0)
        for name, kind, (rows, columns, classes) in zip(names, kinds, sizes.to_numpy().tolist(), strict=True)
    ]


def _packaged_index() -> Path:
    spec = find_spec("pmlb")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("tabular: tasks.download=true needs the package pmlb, which is not installed; pip install pmlb")
    return Path(spec.submodule_search_locations[0]) / "all_summary_stats.tsv"


def _check_names(index: Sequence[_Entry], wanted: Filter) -> None:
    kinds = {entry.name: entry.kind for entry in index}
    for name in wanted.names or ():
        if name not in kinds:
            raise DataError(
                f"tabular: tasks.names has {name!r}, which PMLB's index does not; "
                f"mend it, or leave it out ({_like(name, list(kinds))})"
            )
        if kinds[name] != wanted.kind.value:
            raise DataError(
                f"tabular: tasks.names has {name!r}, which is {kinds[name]}, but tasks.kind is {wanted.kind.value}; "
                "change one of them"
            )


def _like(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=3)
    return f"like it: {', '.join(close)}" if close else f"{len(names)} names are in it"


def _read_file(root: Path, name: str, download: bool) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    path = next((root / place.format(name) for place in PLACES if (root / place.format(name)).is_file()), None)
    if path is None:
        return _fetch(root, name) if download else _missing(root, name)
    try:
        frame = pd.read_csv(path, sep="\t", low_memory=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"tabular: {path} is damaged ({error}); get it again") from error
    if TARGET not in frame.columns or f"{TARGET}.1" in frame.columns:  # as pandas calls a second one
        raise BadTable(f"has {'two columns' if TARGET in frame.columns else 'no column'} called {TARGET}")
    return frame


def _missing(root: Path, name: str) -> pd.DataFrame:
    raise BadTable(f"is in the index, but its file is not in {root}; get it, or set tasks.download=true")


def _fetch(root: Path, name: str) -> pd.DataFrame:
    try:
        package = import_module("pmlb")
        return package.fetch_data(name, local_cache_dir=str(root), dropna=False)
    except ImportError as error:
        raise DataError(
            f"tabular: tasks.download=true needs the package pmlb, which does not load ({error}); pip install pmlb"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"tabular: could not fetch {name} ({error}); try again, put {name}/{name}.tsv.gz into {root}, or set "
            "tasks.download=false"
        ) from error
