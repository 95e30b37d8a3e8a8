"""Public tables, a task each: PMLB's, or those that come with scikit-learn."""

from __future__ import annotations

from typing import final

import torch

from metaopt.errors import TaskError
from metaopt.tasks.tables.content import by_content, same_content
from metaopt.tasks.tables.derived import derived
from metaopt.tasks.tables.overview import Overview, overview_of
from metaopt.tasks.tables.pmlb import Filter, read_pmlb
from metaopt.tasks.tables.sklearn_tables import read_sklearn
from metaopt.tasks.tables.synthetic import synthetic as invented
from metaopt.tasks.tables.table import BadTable, LeftOut, RowSizes, Table, check_rows, check_sizes, listed, sift
from metaopt.tasks.tables.table_sampler import TableSampler
from metaopt.tasks.tables.table_splits import SplitSettings, divide
from metaopt.types import Kind, Split, TaskBatch

SOURCES = ("pmlb", "sklearn")


@final
class Tabular:
    """Tasks from public tables: each is some rows of one table, to train on, and other rows to predict.

    Splits are by table. Tables that hold the same data, in whole or in part, or data from one source, are one group
    (`group_of`, `by_content`) and stay in one split; of tables that are the same row by row, one is used.

    Args:
        source: `pmlb`: tables of PMLB below `root`; `sklearn`: the few that come with scikit-learn, which have from 150
            rows on.
        root: the folder with PMLB's tables; see `read_pmlb`.
        download: whether to fetch tables that are missing there with the package `pmlb`.
        kind: `classification` or `regression`.
        names: use these tables only.
        min_rows: fewest rows of a table.
        max_rows: most rows of a table.
        max_columns: most columns of a table.
        max_classes: most classes of a table.
        max_width: most inputs that a table may become; all tasks are padded to the widest.
        one_hot: columns of 3 to this many whole numbers become one input for each of these; others are numbers.
        support: rows of a task that the inner loop trains on.
        query: rows of a task for the outer loss.
        test: rows of a task for the final comparison.
        validation_share: share of the tables in meta-validation.
        test_share: share of the tables in meta-test.
        meta_train: tables that lie in meta-train, with their groups; null: whatever the shares and the seed say.
        meta_validation: likewise.
        meta_test: likewise.
        split_seed: decides which groups lie in which split; independent of every other seed.
        derived_targets: classification only: for each meta-train table so many more tasks, at most, that predict one of
            its columns from the others (`derived`). 0: none.
        synthetic: classification only: so many tables of random functions with noise (`synthetic`), for meta-training
            alone. 0: none. Tasks of meta-training are in equal shares of the tables themselves, of derived and of
            synthetic ones, where there are such.

    Attributes:
        splits: by split, the names of its tables.
        left_out: tables that are not used, and why.

    Raises:
        TaskError: a setting is impossible, or too few tables are left for three splits.
        DataError: the tables, or some that are named, are not there.
    """

    def __init__(
        self,
        source: str = "pmlb",
        root: str = "data/pmlb",
        download: bool = False,
        kind: str = "classification",
        names: list[str] | None = None,
        min_rows: int | None = None,
        max_rows: int | None = 100_000,
        max_columns: int | None = None,
        max_classes: int | None = 10,
        max_width: int = 100,
        one_hot: int = 8,
        support: int = 64,
        query: int = 64,
        test: int = 128,
        validation_share: float = 0.15,
        test_share: float = 0.25,
        meta_train: list[str] | None = None,
        meta_validation: list[str] | None = None,
        meta_test: list[str] | None = None,
        split_seed: int = 0,
        derived_targets: int = 0,
        synthetic: int = 0,
    ) -> None:
        self.name = "tabular"
        sizes = RowSizes(support, query, test)
        check_sizes(self.name, sizes)
        _check_choices(source, kind, max_width, one_hot)
        for key, value in (("derived_targets", derived_targets), ("synthetic", synthetic)):
            _check_more(kind, key, value)
        wanted = Filter(Kind(kind), names, min_rows, max_rows, max_columns, max_classes)
        if source == "pmlb":
            found, left_out = read_pmlb(root, wanted, one_hot, download)
        else:
            found, left_out = read_sklearn(wanted, one_hot)
        tables, unusable = _usable(found, sizes, max_width)
        left_out += unusable
        given: dict[Split, list[str] | None] = {
            "meta_train": meta_train,
            "meta_validation": meta_validation,
            "meta_test": meta_test,
        }
        settings = SplitSettings((validation_share, test_share), split_seed, given)
        divided = divide(self.name, by_content(tables, with_targets=False), settings, listed(left_out))
        self.splits = divided.names
        self.split_hash = divided.hash
        self.left_out = left_out + divided.left_out
        self._tables = divided.tables
        self._sizes = sizes
        more = [derived(divided.tables["meta_train"], sizes, derived_targets), invented(synthetic, sizes, split_seed)]
        self._sampler = TableSampler(divided.tables, sizes, more)
        self.spec = self._sampler.spec

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks; see `TableSampler.sample`."""
        return self._sampler.sample(split, n, generator)

    def members_of(self, split: Split, n: int, generator: torch.Generator) -> list[str]:
        """The table of each task that `sample` draws with the same arguments."""
        return self._sampler.members_of(split, n, generator)

    def overview(self) -> Overview:
        """What there is, to be shown before training."""
        return overview_of(self._tables, self._sizes, self.left_out)


def _check_choices(source: str, kind: str, max_width: int, one_hot: int) -> None:
    kinds = [known.value for known in Kind]
    for key, value, choices in (("source", source, SOURCES), ("kind", kind, kinds)):
        if value not in choices:
            raise TaskError(f"tabular: tasks.{key} is {value!r}; choose one of {', '.join(choices)}")
    for key, value, least in (("max_width", max_width, 1), ("one_hot", one_hot, 2)):
        if value < least:
            raise TaskError(f"tabular: tasks.{key} must be at least {least}, but is {value}; raise it")


def _check_more(kind: str, key: str, value: int) -> None:
    if value < 0:
        raise TaskError(f"tabular: tasks.{key} must be at least 0, but is {value}; raise it")
    if value and kind != Kind.classification.value:
        raise TaskError(f"tabular: tasks.{key}={value} makes tasks with classes, but tasks.kind is {kind}; set it to 0")


def _usable(tables: list[Table], sizes: RowSizes, max_width: int) -> tuple[list[Table], list[LeftOut]]:
    def checked(table: Table) -> Table:
        check_rows(table, sizes)
        if table.width > max_width:
            raise BadTable(f"has {table.width} inputs; raise tasks.max_width={max_width}, or lower tasks.one_hot")
        return table

    usable, left_out = sift(tables, checked, lambda table: table.name)
    copies = {copy.name: original.name for copy, original in same_content(usable)}
    left_out += [LeftOut(name, f"is row by row {original}") for name, original in copies.items()]
    return [table for table in usable if table.name not in copies], left_out
