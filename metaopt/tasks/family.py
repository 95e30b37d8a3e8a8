"""What a family of tasks is, and the helpers that keep its splits frozen, disjoint and recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Protocol, runtime_checkable

import torch

from metaopt.errors import DataError, TaskError
from metaopt.types import Split, TaskBatch, TaskSpec


class TaskFamily(Protocol):
    """Related tasks, in three splits that share none."""

    @property
    def name(self) -> str:
        """Short name, as in the records: "digits"."""
        ...

    @property
    def spec(self) -> TaskSpec:
        """What a model must know to fit the tasks."""
        ...

    @property
    def splits(self) -> dict[Split, list[str]]:
        """By split, the names of what lies in it: classes, tables or groups; a continuous family names its law."""
        ...

    @property
    def split_hash(self) -> str:
        """16 hex digits that change whenever anything moves between the splits."""
        ...

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw tasks of one split.

        Pure in the generator: the same state of it gives the same tasks, and nothing else is advanced.

        Args:
            split: where the tasks come from.
            n: number of tasks.
            generator: a CPU generator; the only source of randomness.

        Returns:
            Support, query and test set of each task, with the leading dimension [tasks].
        """
        ...


@runtime_checkable
class OfMembers(Protocol):
    """A family with fewer members, such as tables, than tasks: several tasks are draws from one."""

    def members_of(self, split: Split, n: int, generator: torch.Generator) -> list[str]:
        """Which member each task is from that `sample` draws with the same arguments."""
        ...


@runtime_checkable
class Placeable(Protocol):
    """A family that can keep what its tasks are made of on another device, so that tasks need not travel there."""

    def place(self, device: torch.device, most: int) -> None:
        """From now on tasks are made on the device, unless what they are made of takes more than `most` bytes.

        The same state of a generator goes on giving the same tasks.
        """
        ...


def hash_splits(family: str, splits: Mapping[Split, Iterable[str]]) -> str:
    """Fingerprint of what lies in each split.

    Args:
        family: name of the family.
        splits: by split, the names of what lies in it; their order does not matter.

    Returns:
        The first 16 hex digits of a SHA-256 over canonical JSON.
    """
    content = {"family": family, "splits": {split: sorted(members) for split, members in splits.items()}}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(canonical.encode("ascii")).hexdigest()[:16]


def check_disjoint(family: str, splits: Mapping[Split, Iterable[str]]) -> None:
    """Make sure that nothing lies in two splits.

    Args:
        family: name of the family, for the error.
        splits: by split, the names of the units that must stay together, such as characters in all their rotations.

    Raises:
        TaskError: naming a unit that lies in two splits, and both of them.
    """
    seen: dict[str, Split] = {}
    for split, members in splits.items():
        for member in sorted(set(members)):
            if member in seen:
                raise TaskError(
                    f"{family}: the splits must share nothing, but {member} lies in both {seen[member]} and {split}; "
                    "leave it in one of them"
                )
            seen[member] = split


def check_words(family: str, tasks: TaskBatch, vocabulary: int) -> None:
    """Make sure that inputs are ids of words, which no model checks: a wrong one would be read as another word.

    Args:
        family: name of the family, for the error.
        tasks: any tasks of it.
        vocabulary: number of words. NaN stands where an input has no word.

    Raises:
        DataError: naming an id that is none.
    """
    for batch in tasks:
        ids = batch.x[~batch.x.isnan()]
        wrong = ids[(ids < 0) | (ids >= vocabulary) | (ids != ids.round())]
        if len(wrong):
            raise DataError(
                f"{family}: inputs are ids of words, whole numbers from 0 to {vocabulary - 1}, but one is "
                f"{wrong[0].item():g}; mend the family's sample, or give its spec the right vocabulary"
            )


def shuffled(members: Iterable[str], seed: int, salt: str = "") -> list[str]:
    """The members in an order that `seed` decides.

    The order comes from hashes, not from a random number generator, so that a frozen split stays the same
    on every platform and under every version of every library.

    Args:
        members: distinct names; their order does not matter.
        seed: any whole number; each gives another order.
        salt: gives further orders for the same seed.
    """
    return sorted(members, key=lambda member: sha256(f"{seed}/{salt}/{member}".encode()).digest())
