"""Which tables lie in which split: by group, frozen, and hashed with what the tables hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metaopt.errors import TaskError
from metaopt.tasks.family import check_disjoint, hash_splits, shuffled
from metaopt.tasks.tables.table import LeftOut, Table, named
from metaopt.types import SPLITS, Split

LARGE_GROUP = 0.05
"""Share of all tables beyond which a group goes to meta-train: held-out means over it would be means of one group."""


@dataclass(frozen=True)
class SplitSettings:
    """How tables are divided.

    Attributes:
        shares: share of the tables in meta-validation and meta-test, up to whole groups and not counting large ones;
            meta-train gets the rest.
        seed: decides which groups lie where.
        given: tables that were said to lie in a split, by split; None where nothing was said.
    """

    shares: tuple[float, float]
    seed: int
    given: Mapping[Split, Sequence[str] | None]


class Divided(NamedTuple):
    """Tables by split.

    Attributes:
        tables: by split, its tables in the order of their names.
        names: by split, their names.
        hash: 16 hex digits that change when a table moves, or when its content changes.
        left_out: tables that are in no split, because the splits were all given without them.
    """

    tables: dict[Split, list[Table]]
    names: dict[Split, list[str]]
    hash: str
    left_out: list[LeftOut]


def divide(family: str, tables: Sequence[Table], settings: SplitSettings, remedy: str) -> Divided:
    """Divide tables among the splits, group by group.

    Tables that were given to a split take their groups with them. Of the other groups, those of more than two tables
    and more than a twentieth of all go to meta-train, and the rest is divided, in an order that the seed decides, by
    the shares of those splits that were not given.

    Args:
        family: name of the family, for errors and the hash.
        tables: distinct names; their order does not matter.
        settings: how.
        remedy: where more tables could come from, for the error.

    Raises:
        TaskError: a share or a name is impossible, a group was given to two splits, or a split would be empty.
    """
    _check_shares(family, settings.shares)
    _check_given(family, tables, settings.given)
    groups: dict[str, list[Table]] = defaultdict(list)
    for table in sorted(tables, key=lambda table: table.name):
        groups[table.group].append(table)
    place = _given_groups(family, tables, settings.given)
    free: list[Split] = [split for split in SPLITS if settings.given[split] is None]
    rest = [group for group in groups if group not in place]
    if free:
        large = [g for g in rest if len(groups[g]) > max(2, LARGE_GROUP * len(tables)) and "meta_train" in free]
        place |= dict.fromkeys(large, "meta_train")
        order = shuffled([group for group in rest if group not in place], settings.seed)
        sizes = {group: len(groups[group]) for group in order}
        place |= _by_shares(sizes, _wanted(sum(sizes.values()), free, settings.shares), filled=set(place.values()))
    divided: dict[Split, list[Table]] = {
        split: [table for group, members in groups.items() if place.get(group) == split for table in members]
        for split in SPLITS
    }
    _check_filled(family, divided, len(groups), remedy)
    check_disjoint(family, {split: {table.group for table in members} for split, members in divided.items()})
    names: dict[Split, list[str]] = {split: [table.name for table in members] for split, members in divided.items()}
    hashed = hash_splits(family, {s: [f"{t.name}@{t.digest}" for t in members] for s, members in divided.items()})
    left_out = [LeftOut(t.name, "is in none of the splits as given") for g in rest if g not in place for t in groups[g]]
    return Divided(divided, names, hashed, left_out)


def _wanted(tables: int, free: Sequence[Split], shares: tuple[float, float]) -> dict[Split, float]:
    """How many of the tables each free split gets, the last of them all that are left."""
    share: dict[Split, float] = {"meta_test": shares[1], "meta_validation": shares[0], "meta_train": 1 - sum(shares)}
    total = sum(share[split] for split in free)
    return {split: round(tables * part / total) for split, part in share.items() if split in free}


def _by_shares(sizes: Mapping[str, int], wanted: Mapping[Split, float], filled: Collection[Split]) -> dict[str, Split]:
    """A split for each group, in their order; every split gets one, unless it is filled already, if there are enough.

    Args:
        sizes: tables in each group.
        wanted: tables for each split.
        filled: splits that have tables already.
    """
    splits = list(wanted)
    left = list(sizes)
    place: dict[str, Split] = {}
    for number, split in enumerate(splits, start=1):
        waiting = splits[number:]
        kept = len(set(waiting) - set(filled))
        count = 0
        while len(left) > kept and (count < max(1, wanted[split]) or not waiting):
            group = left.pop(0)
            place[group] = split
            count += sizes[group]
    return place


def _given_groups(
    family: str, tables: Sequence[Table], given: Mapping[Split, Sequence[str] | None]
) -> dict[str, Split]:
    group_of = {table.name: table.group for table in tables}
    place: dict[str, Split] = {}
    by: dict[str, str] = {}
    for split, names in given.items():
        for name in names or ():
            group = group_of[name]
            if place.get(group, split) != split:
                raise TaskError(
                    f"{family}: tasks.{split} has {name}, but tasks.{place[group]} has {by[group]}, which "
                    f"{'is the same table' if by[group] == name else 'holds the same data or data of one source'}; "
                    "leave it in one of them"
                )
            place[group], by[group] = split, name
    return place


def _check_shares(family: str, shares: tuple[float, float]) -> None:
    for key, share in zip(("validation_share", "test_share"), shares, strict=True):
        if not 0 < share < 1:
            raise TaskError(f"{family}: tasks.{key} must be between 0 and 1, but is {share}; change it")
    if sum(shares) >= 1:
        raise TaskError(
            f"{family}: tasks.validation_share={shares[0]} and tasks.test_share={shares[1]} leave nothing for "
            "meta-train; lower one of them"
        )


def _check_given(family: str, tables: Sequence[Table], given: Mapping[Split, Sequence[str] | None]) -> None:
    known = {table.name for table in tables}
    for split, names in given.items():
        if names is not None and not names:
            raise TaskError(f"{family}: tasks.{split} is empty; name at least one table, or set it to null")
        for name in names or ():
            if name not in known:
                raise TaskError(
                    f"{family}: tasks.{split} has {name!r}, which is none of the {len(known)} tables; choose from "
                    f"{named(sorted(known), 20)}"
                )


def _check_filled(family: str, divided: Mapping[Split, Sequence[Table]], groups: int, remedy: str) -> None:
    if all(divided.values()):
        return
    empty = " and ".join(split for split, members in divided.items() if not members)
    raise TaskError(
        f"{family}: each split needs a table, but {empty} would have none, with "
        f"{sum(map(len, divided.values()))} usable tables in {groups} groups of related ones; "
        f"{remedy or 'add tables'}"
    )
