"""Which tables are relatives of each other by what they hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from metaopt.tasks.tables.table import Table

SHARED = 0.5
"""Share of a table's distinct rows, or columns, from which on another table that holds them is a relative."""
DISTINCT_ROWS = 0.5
"""Share of distinct rows from which on rows tell tables apart; in tables of few categories any two share rows."""
DISTINCT_VALUES = 20
"""Different values from which on a column tells tables apart."""


def by_content(tables: Sequence[Table], with_targets: bool) -> list[Table]:
    """The tables, with one group for those that share content, whatever their names.

    Two tables are related where one shares with the other half or more of its distinct rows, with equal values in any
    order of the columns, or half or more of its columns, with equal values in any order of the rows. Only rows and
    columns count that tell tables apart: no rows of a table in which most rows are like another, and no column that
    takes few or evenly spaced values.

    Args:
        tables: of one family.
        with_targets: whether rows, and columns, are equal only with equal targets.

    Returns:
        The same tables in the same order; groups that contain relatives have become one, called as the first of them.
    """
    parent = {table.group: table.group for table in tables}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for one, other in related(tables, with_targets):
        first, second = sorted((root(one.group), root(other.group)))
        parent[second] = first
    return [replace(table, group=root(table.group)) for table in tables]


def same_content(tables: Sequence[Table]) -> list[tuple[Table, Table]]:
    """Pairs of a table and an earlier one that holds the same rows with the same targets, in any order of both."""
    seen: dict[bytes, Table] = {}
    found = []
    for table in tables:
        key = np.sort(row_hashes(table, with_targets=True)).tobytes()
        if key in seen:
            found.append((table, seen[key]))
        else:
            seen[key] = table
    return found


def row_hashes(table: Table, with_targets: bool) -> np.ndarray:
    """A number for each row, [rows], uint64, that does not change with the order of the columns.

    Values are compared as float32 numbers; a missing value equals a missing value.
    """
    total = np.zeros(table.rows, dtype=np.uint64)
    for values in table.x.T:
        total += _mixed(values, salt=0)
    return total + _mixed(table.y, salt=1) if with_targets else total


def related(tables: Sequence[Table], with_targets: bool) -> list[tuple[Table, Table]]:
    """Pairs of tables that `by_content` brings together."""
    rows = {i: np.unique(row_hashes(table, with_targets)) for i, table in enumerate(tables)}
    rows = {i: hashes for i, hashes in rows.items() if len(hashes) >= DISTINCT_ROWS * tables[i].rows}
    columns = {i: _telling_columns(table, with_targets) for i, table in enumerate(tables)}
    shared_columns = _count_pairs(_holders((i, key) for i, keys in columns.items() for key in keys).values())
    pairs = _half_shared(_shared_rows(rows), {i: len(hashes) for i, hashes in rows.items()})
    pairs |= _half_shared(shared_columns, {i: len(keys) for i, keys in columns.items()})
    return [(tables[one], tables[other]) for one, other in sorted(pairs)]


def _half_shared(shared: Mapping[tuple[int, int], int], sizes: Mapping[int, int]) -> set[tuple[int, int]]:
    return {pair for pair, count in shared.items() if count >= SHARED * min(sizes[pair[0]], sizes[pair[1]])}


def _shared_rows(rows: Mapping[int, np.ndarray]) -> Counter[tuple[int, int]]:
    """How many hashes each two tables share."""
    if not rows:
        return Counter()
    hashes = np.concatenate(list(rows.values()))
    owners = np.repeat(list(rows), [len(own) for own in rows.values()])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    twice = np.flatnonzero(hashes[1:] == hashes[:-1])
    both = np.union1d(twice, twice + 1)
    return _count_pairs(_holders(zip(owners[both].tolist(), hashes[both].tolist(), strict=True)).values())


def _telling_columns(table: Table, with_targets: bool) -> set[tuple[int, int]]:
    """The columns that tell a table apart, as (rows, hash of the values, or of values with targets, in any order)."""
    targets = _mixed(table.y, salt=1) if with_targets else np.ones(table.rows, dtype=np.uint64)
    return {
        (table.rows, int((_mixed(values, salt=0) * targets).sum()))
        for column, values in zip(table.columns, table.x.T, strict=True)
        if not column.categories and _tells_apart(values)
    }


def _tells_apart(values: np.ndarray) -> bool:
    distinct = np.unique(values[~np.isnan(values)].astype(np.float32))
    steps = np.diff(distinct)
    return len(distinct) >= DISTINCT_VALUES and not np.allclose(steps, steps[0])


def _holders(owned: Iterable[tuple[int, Hashable]]) -> dict[Hashable, set[int]]:
    """Who has each thing."""
    holders: dict[Hashable, set[int]] = defaultdict(set)
    for owner, thing in owned:
        holders[thing].add(owner)
    return holders


def _count_pairs(together: Iterable[set[int]]) -> Counter[tuple[int, int]]:
    return Counter(pair for owners in together for pair in combinations(sorted(owners), 2))


def _mixed(values: np.ndarray, salt: int) -> np.ndarray:
    """splitmix64's finaliser (Steele et al., 2014) of the bits of each value: what is nearly equal comes out unlike."""
    single = values.astype(np.float32) + np.float32(0)  # -0 becomes 0
    single[np.isnan(single)] = np.nan  # of all the NaNs there are, one
    bits = single.view(np.uint32).astype(np.uint64) + np.uint64(salt << 32) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
