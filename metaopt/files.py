"""Writing files so that a reader finds the old content or the new, and never half of either."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_LEFTOVER = re.compile(r"\..+-[0-9a-f]{12}(\.\w+)?")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`: renamed to `path` when the block succeeds, removed when it raises.

    It ends as `path` does, because some writers choose their format by the suffix. Missing folders are made.

    Args:
        path: the file to write or replace.

    Yields:
        A name for the block to write to; no file is there yet.

    Raises:
        OSError: the folder cannot be made or written to, or the block wrote nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_new_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in one stroke, unless something is there already; of two writers one succeeds.

    Raises:
        FileExistsError: `path` is taken.
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.write_bytes(text.encode("utf-8"))
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(path) from None
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files that writers left in `folder` when they were killed."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in one stroke; UTF-8, with the line ends that `text` has."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` in one stroke."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}-{uuid4().hex[:12]}{path.suffix}")
