"""Which classes of images lie in which split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaopt.errors import DataError, TaskError
from metaopt.tasks.family import shuffled
from metaopt.tasks.images.split_files import FILES, read_lines
from metaopt.types import Split


@dataclass(frozen=True)
class SplitChoice:
    """How the classes are divided.

    Attributes:
        seed: decides it, where neither the data nor files do.
        validation: number of classes of meta-validation; None: a fifth of all, or where that is less than three, three
            but no more than a third.
        test: number of classes of meta-test, likewise.
        files: folder with train.txt, val.txt and test.txt, which list the classes instead.
    """

    seed: int = 0
    validation: int | None = None
    test: int | None = None
    files: str | Path | None = None


def split_classes(
    family: str, classes: Sequence[str], choice: SplitChoice, given: Mapping[Split, Sequence[str]] | None
) -> dict[Split, list[int]]:
    """The classes of each split.

    Args:
        family: name of the family, for errors.
        classes: names of all classes.
        choice: how to divide them.
        given: the split that was published with the data or that their folders make.

    Returns:
        By split, positions in `classes` in increasing order.

    Raises:
        TaskError: a setting contradicts the split that the data have, or leaves a split without classes.
        DataError: the split files are missing or list nothing, or there is no class of a name.
    """
    position = {name: i for i, name in enumerate(classes)}
    if choice.files is not None:
        _check_unused(family, choice, "tasks.split_files lists the classes; leave it out")
        return _from_files(family, position, choice.files)
    if given is None:
        return _drawn(family, position, choice)
    _check_unused(family, choice, "the data come with their split; leave it out, or list another in tasks.split_files")
    unknown = [name for members in given.values() for name in members if name not in position]
    if unknown:
        raise DataError(
            f"{family}: its split names the class {unknown[0]!r}, which the data do not have; fetch the data again"
        )
    return {split: sorted(position[name] for name in members) for split, members in given.items()}


def _drawn(family: str, position: Mapping[str, int], choice: SplitChoice) -> dict[Split, list[int]]:
    usual = max(len(position) // 5, min(3, len(position) // 3))
    validation = usual if choice.validation is None else choice.validation
    test = usual if choice.test is None else choice.test
    if min(validation, test, len(position) - validation - test) < 1:
        raise TaskError(
            f"{family}: tasks.validation_classes={validation} and tasks.test_classes={test} must each be 1 or more and "
            f"leave some of the {len(position)} classes for meta-train; change them"
        )
    order = [position[name] for name in shuffled(position, choice.seed)]
    return {
        "meta_train": sorted(order[validation + test :]),
        "meta_validation": sorted(order[test : validation + test]),
        "meta_test": sorted(order[:test]),
    }


def _from_files(family: str, position: Mapping[str, int], folder: str | Path) -> dict[Split, list[int]]:
    found: dict[Split, list[int]] = {}
    for split, lines in read_lines(family, folder).items():
        for line in lines:
            if line.text not in position:
                raise DataError(
                    f"{family}: {line.place} names the class {line.text!r}, which is not among the {len(position)} in "
                    f"the data ({', '.join(list(position)[:3])}, ...); mend the line"
                )
        if not lines:
            raise DataError(f"{family}: {Path(folder) / FILES[split]} lists no class; add a line for each")
        found[split] = sorted({position[line.text] for line in lines})
    return found


def _check_unused(family: str, choice: SplitChoice, why: str) -> None:
    settings = (
        ("split_seed", choice.seed, 0),
        ("validation_classes", choice.validation, None),
        ("test_classes", choice.test, None),
    )
    for key, value, unset in settings:
        if value != unset:
            raise TaskError(f"{family}: tasks.{key}={value} decides nothing, because {why}")
