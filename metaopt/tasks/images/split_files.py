"""Splits that text files lay down: train.txt, val.txt and test.txt, a line for each class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from metaopt.errors import DataError
from metaopt.types import Split

FILES: dict[Split, str] = {"meta_train": "train.txt", "meta_validation": "val.txt", "meta_test": "test.txt"}


class Line(NamedTuple):
    """A line that is not empty.

    Attributes:
        text: without the white space around it.
        place: file and number, for errors.
    """

    text: str
    place: str


def read_lines(family: str, folder: str | Path) -> dict[Split, list[Line]]:
    """The lines of the three files of a folder.

    Args:
        family: name of the family, for errors.
        folder: where the files are.

    Raises:
        DataError: a file is missing or is no text.
    """
    folder = Path(folder).expanduser()
    return {split: _lines(family, folder / name) for split, name in FILES.items()}


def _lines(family: str, path: Path) -> list[Line]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        wanted = ", ".join(FILES.values())
        raise DataError(
            f"{family}: tasks.split_files must be a folder with the text files {wanted}, but {path} cannot be read "
            f"({type(error).__name__}); put it there, or drop tasks.split_files for the default split"
        ) from error
    return [Line(line.strip(), f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
