"""Writing files so that a reader finds the old content or the new, and never half of either.

What was written stays, even where the power fails: a file reaches the disk before its name does, and the name before
the call returns. An error names the file that was asked for, never a temporary one.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_REFUSED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EISDIR)
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
    with naming(path), _temporary(path) as temporary:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, path)


def write_new_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in one stroke, unless something is there already; of two writers one succeeds.

    Raises:
        FileExistsError: `path` is taken.
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    with naming(path), _temporary(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        to_disk(temporary)
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            os.replace(temporary, path)


def to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's names, would outlast a failure of power.

    A file system that cannot do so for folders is taken as it is.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not (error.errno in _REFUSED and path.is_dir()):
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has every OSError of the block name `path`: most of those of a full disk name no file, or a temporary one."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO  # NumPy's short writes have none
        raise OSError(number, error.strerror or str(error) or os.strerror(number), str(path)) from error


def remove_leftovers(folder: Path, seconds: float = 0.0) -> None:
    """Removes temporary files that writers left in `folder` when they were killed.

    Args:
        folder: where to look; not below.
        seconds: files that are no older may belong to a writer that still lives, and stay.
    """
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            with suppress(FileNotFoundError):  # another process removes it, too
                if time.time() - path.lstat().st_mtime >= seconds:
                    path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in one stroke; UTF-8, with the line ends that `text` has."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` in one stroke."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` that is gone after the block; what the block did to the folder's names is on disk then."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in made:
        to_disk(folder.parent)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex[:12]}{path.suffix}")
    try:
        yield temporary
        to_disk(path.parent)
    finally:
        with suppress(OSError):  # must not hide what went wrong before; who comes next removes it
            temporary.unlink(missing_ok=True)
