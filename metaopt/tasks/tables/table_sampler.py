"""Draws tasks from tables: which table, which of its rows, and what they look like to a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from metaopt.tasks.tables.preprocess import Layout, fit, layout_of
from metaopt.tasks.tables.table import RowSizes, Table
from metaopt.types import Batch, Kind, Split, TaskBatch, TaskSpec


@final
class TableSampler:
    """Draws tasks from tables of one kind.

    Args:
        tables: by split, its tables; each has the rows that `sizes` needs (`check_rows`).
        sizes: rows of a task.
        more: further tables for meta-train alone, in pools.
    """

    def __init__(
        self, tables: Mapping[Split, Sequence[Table]], sizes: RowSizes, more: Sequence[Sequence[Table]] = ()
    ) -> None:
        everything = [table for members in (*tables.values(), *more) for table in members]
        self._tables = tables
        self._sizes = sizes
        self._sources = {table.name: _Source(table) for table in everything}
        self._pools = [_by_group(pool) for pool in (tables.get("meta_train", ()), *more) if pool]
        kind = everything[0].kind
        outputs = max(len(table.classes) for table in everything) if kind is Kind.classification else 1
        self.spec = TaskSpec(kind, (max(table.width for table in everything),), outputs, padded=True)

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks: tables, and for each distinct rows for support, query and test.

        In meta-train, each task is of a random table of a random group, with replacement; if there are further pools,
        of a random pool. In the other splits, the tables take turns in random order, so that each has equally
        many tasks, but for one. In classification, rows are stratified: each class has its share in every set, up to a
        row or two, and at least one row in the support set.

        Args:
            split: where the tables come from.
            n: number of tasks.
            generator: a CPU generator; the only source of randomness.

        Returns:
            The tasks, as `TaskSpec.padded` says: inputs [tasks, rows, widest], float32, with NaN in those that a task
            lacks and nowhere else; marked classes [tasks, rows, most classes], int64, or targets [tasks, rows, 1],
            float32, standardised by mean and standard deviation of the task's support targets (where those are all
            equal, by their mean alone).
        """
        tables = self._draw_tables(split, n, generator)
        seeds = torch.randint(2**62, (n,), generator=generator).tolist()
        sizes = list(self._sizes)
        inputs = torch.full((n, sum(sizes), *self.spec.input_shape), torch.nan)
        targets = self._no_targets(n)
        for task, (table, seed) in enumerate(zip(tables, seeds, strict=True)):
            source = self._sources[table.name]
            x, y = source.draw(self._sizes, np.random.default_rng(seed))
            inputs[task, :, : x.shape[1]] = torch.from_numpy(x)
            targets[task, :, : y.shape[1]] = torch.from_numpy(y)
        sets = zip(inputs.split(sizes, dim=1), targets.split(sizes, dim=1), strict=True)
        return TaskBatch(*(Batch(x.contiguous(), y.contiguous()) for x, y in sets))

    def members_of(self, split: Split, n: int, generator: torch.Generator) -> list[str]:
        """The table of each task that `sample` draws with the same arguments."""
        return [table.name for table in self._draw_tables(split, n, generator)]

    def _no_targets(self, n: int) -> Tensor:
        shape = (n, sum(self._sizes), self.spec.output_size)
        return torch.full(shape, -1) if self.spec.kind is Kind.classification else torch.zeros(shape)

    def _draw_tables(self, split: Split, n: int, generator: torch.Generator) -> list[Table]:
        if split != "meta_train":
            tables, rounds = self._tables[split], -(-n // len(self._tables[split]))
            turns = [torch.randperm(len(tables), generator=generator) for _ in range(rounds)]
            return [tables[i] for i in torch.cat(turns)[:n].tolist()] if turns else []
        n_pools = len(self._pools)
        pools = torch.randint(n_pools, (n,), generator=generator).tolist() if n_pools > 1 else [0] * n
        sizes = torch.tensor([len(self._pools[pool]) for pool in pools])
        if n_pools > 1:  # without further pools, the draws are what they were before there were any
            chosen = (torch.rand(n, generator=generator, dtype=torch.float64) * sizes).long().tolist()
        else:
            chosen = torch.randint(len(self._pools[0]), (n,), generator=generator).tolist()
        within = torch.rand(n, generator=generator, dtype=torch.float64).tolist()
        groups = [self._pools[pool][group] for pool, group in zip(pools, chosen, strict=True)]
        return [group[int(part * len(group))] for group, part in zip(groups, within, strict=True)]


class _Source:
    """A table, with what every draw from it needs."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._layout: Layout = layout_of(table.columns)
        self._complete = not np.isnan(table.x).any()
        classes = range(len(table.classes))
        self._strata = [np.flatnonzero(table.y == label) for label in classes] or [np.arange(table.rows)]

    def draw(self, sizes: RowSizes, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [rows, width] and targets [rows, classes or 1], support rows first, then query, then test."""
        rows = stratified(self._strata, sum(sizes), rng)
        x, y = self._table.x[rows], self._table.y[rows]
        inputs = fit(self._layout, x[: sizes.support], self._complete)(x)
        if self._table.kind is Kind.classification:
            return inputs, (y[:, None] == np.arange(len(self._table.classes))).astype(np.int64)
        shown = y[: sizes.support]
        deviation = shown.std() if np.ptp(shown) > 0 else 1.0
        return inputs, ((y - shown.mean()) / deviation).astype(np.float32)[:, None]


def stratified(strata: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct rows in random order, of which every first part has each stratum in proportion.

    One row of each stratum comes first. After these, strata take turns by Sainte-Laguë's method: of the k rows that a
    stratum has left, the r-th comes at (r - 1/2) / k of the way through all rows. Ties are random.

    Args:
        strata: the rows of each stratum.
        n: number of rows to draw; no more than there are.
        rng: the only source of randomness.

    Returns:
        [n], int64.
    """
    left = np.array([len(rows) for rows in strata]) - 1
    enough = np.minimum(left, np.ceil(n * left / max(1, left.sum())) + 2).astype(int)
    chosen = [rows[rng.choice(len(rows), some + 1, replace=False)] for rows, some in zip(strata, enough, strict=True)]
    way = [np.append(-1.0, (np.arange(some) + 0.5) / max(1, k)) for k, some in zip(left, enough, strict=True)]
    keys = np.concatenate(way)
    return np.concatenate(chosen)[np.lexsort((rng.random(len(keys)), keys))[:n]]


def _by_group(tables: Sequence[Table]) -> list[list[Table]]:
    groups: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        groups[table.group].append(table)
    return list(groups.values())
