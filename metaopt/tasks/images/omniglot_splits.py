"""Which Omniglot characters, in which rotations, lie in which split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from metaopt.errors import DataError
from metaopt.tasks.family import shuffled
from metaopt.tasks.images.split_files import FILES, Line, read_lines
from metaopt.tasks.images.ways import ORIENTATIONS, ImageClass
from metaopt.types import Split

N_CHARACTERS = 1623
N_META_TEST = 423
N_META_VALIDATION = 100

_LINE = re.compile(r"(?P<character>[^/]+/[^/]+?)(?:/rot(?P<degrees>000|090|180|270))?")


def default_splits(characters: Sequence[str], rotations: bool, split_seed: int) -> dict[Split, list[ImageClass]]:
    """1100 characters for meta-train, 100 for meta-validation and 423 for meta-test.

    Args:
        characters: names of all 1623 characters; their order does not matter for the split.
        rotations: whether each rotation by 90 degrees is a class of its own.
        split_seed: decides which characters lie in which split.

    Returns:
        By split, its classes; `subject` is the position in `characters`.

    Raises:
        DataError: there are not 1623 characters.
    """
    if len(characters) != N_CHARACTERS:
        raise DataError(
            f"omniglot: expected {N_CHARACTERS} characters, but the folders hold {len(characters)}; extract the data "
            "again in full, or say with tasks.split_files=DIR which characters lie in which split"
        )
    position = {character: i for i, character in enumerate(characters)}
    order = [position[character] for character in shuffled(characters, split_seed)]
    held_out = N_META_TEST + N_META_VALIDATION
    members: dict[Split, list[int]] = {
        "meta_train": order[held_out:],
        "meta_validation": order[N_META_TEST:held_out],
        "meta_test": order[:N_META_TEST],
    }
    turns = ORIENTATIONS if rotations else ORIENTATIONS[:1]
    return {split: [ImageClass(c, t) for c in sorted(subjects) for t in turns] for split, subjects in members.items()}


def read_splits(folder: str | Path, characters: Sequence[str], rotations: bool) -> dict[Split, list[ImageClass]]:
    """The splits that `train.txt`, `val.txt` and `test.txt` of a folder lay down.

    A line is `Alphabet/characterNN`, meaning all its rotations, or `Alphabet/characterNN/rotRRR` with 000, 090, 180
    or 270 degrees. Without `rotations`, only rot000 counts.

    Args:
        folder: where the three files are.
        characters: names of the characters that there are.
        rotations: whether rotations are classes.

    Returns:
        By split, its classes in the order of `characters`; `subject` is the position in `characters`.

    Raises:
        DataError: a file is missing, unreadable or lists nothing, or a line names no character that there is.
    """
    position = {character: i for i, character in enumerate(characters)}
    return {
        split: _read_file(Path(folder) / FILES[split], lines, position, rotations)
        for split, lines in read_lines("omniglot", folder).items()
    }


def _read_file(path: Path, lines: Sequence[Line], position: dict[str, int], rotations: bool) -> list[ImageClass]:
    classes = {member for line in lines for member in _read_line(line, position)}
    classes = {member for member in classes if rotations or member.turns == 0}
    if not classes:
        raise DataError(
            f"omniglot: {path} must list at least one class, but lists none"
            f"{'' if rotations else ' in rot000'}; add Alphabet/characterNN lines to it"
        )
    return sorted(classes)


def _read_line(line: Line, position: dict[str, int]) -> list[ImageClass]:
    match = _LINE.fullmatch(line.text)
    if match is None:
        raise DataError(
            f"omniglot: {line.place} must be Alphabet/characterNN or Alphabet/characterNN/rotRRR with RRR one of 000, "
            f"090, 180, 270, but is {line.text!r}; mend the line"
        )
    character = match["character"]
    if character not in position:
        raise DataError(
            f"omniglot: {line.place} names the character {character!r}, which is not among the {len(position)} in the "
            "data; mend the line, or extract the data in full"
        )
    turns = ORIENTATIONS if match["degrees"] is None else (int(match["degrees"]) // 90,)
    return [ImageClass(position[character], turn) for turn in turns]
