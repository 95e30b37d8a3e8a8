"""What the machine does to a command that works: a full disk, no memory, nobody who reads what it prints."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from omegaconf import DictConfig

from metaopt.commands.command_line import as_command
from metaopt.errors import StorageError

FAULTS = (OSError, MemoryError, torch.OutOfMemoryError)
_SPACE = "free space there"
_RIGHTS = "make it readable and writable"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EISDIR: "move what lies there away",
    errno.ENOTDIR: "move what lies there away",
    errno.EEXIST: "move what lies there away",
    errno.ENOENT: "put it back",
}


def in_words(error: BaseException, config_name: str, raw: DictConfig | None = None) -> StorageError:
    """One of `FAULTS` as a line that names the file, what happened to it, and how to go on.

    Args:
        error: what was raised.
        config_name: of the command, such as "train".
        raw: its composed configuration; None: it came to none.
    """
    if not isinstance(error, OSError):
        what, remedy = "the memory does not suffice", "free some, or train fewer tasks side by side (inner.task_chunk)"
    else:
        number = error.errno or errno.EIO
        reason = error.strerror or str(error) or os.strerror(number)
        what = f"{error.filename} failed: {reason}" if error.filename is not None else reason
        remedy = _REMEDIES.get(number, "look at the disk")
    return StorageError(f"{what}; {remedy}, then {_way_on(config_name, raw)}")


def _way_on(config_name: str, raw: DictConfig | None) -> str:
    """A run goes on from its last checkpoint; other commands begin again, and never where files lie already."""
    folder = None if raw is None else raw.get("resume") or raw.get("run_dir")
    try:
        begun = folder is not None and (Path(str(folder)) / "config.yaml").exists()
    except OSError:
        begun = True
    if not begun:
        return "start it again"
    if config_name == "train":
        return f"go on with: {as_command('train_meta.py', resume=folder)}"
    return f"start it again with another run_dir; what {folder} holds is complete"


@contextmanager
def lasting_output() -> Iterator[None]:
    """Goes on where standard output or error cannot be written: what is printed is never worth what is computed."""
    before = sys.stdout, sys.stderr
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # a closed one would be the next file, and be printed into
        pass
    os.close(null)
    for stream in before:
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # a letter that the terminal does not have is worth no run
    sys.stderr = _Lasting(sys.stderr, "error")  # type: ignore[assignment]
    sys.stdout = _Lasting(sys.stdout, "output")  # type: ignore[assignment]
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream whose first failed write is its last; the others are lost, after one warning."""

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = io.StringIO() if stream is None else stream
        self._name = name
        self._lost = stream is None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a text stream."""
        if not self._lost:
            try:
                return self._stream.write(text)
            except UnicodeError:
                raise
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """As of a text stream."""
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._lost = True
        try:  # what is still in its buffer must not fail again when Python ends
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass
        if self._name == "output":
            reason = getattr(error, "strerror", None) or error
            print(f"warning: standard output cannot be written ({reason}); going on without it", file=sys.stderr)
