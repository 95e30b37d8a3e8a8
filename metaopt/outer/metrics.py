"""metrics.jsonl: one line for each record, each record once, however often a run was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from metaopt.errors import RunDirError
from metaopt.files import naming, to_disk

Record: TypeAlias = dict[str, Any]
"""Plain values; `kind` says what it reports. Wall times stay out, so that equal runs leave equal files."""


class Kept(NamedTuple):
    """How far a metrics file has come: its length in bytes, and the SHA-256 of so much of it."""

    length: int = 0
    digest: str = hashlib.sha256().hexdigest()


NOTHING = Kept()


class MetricsFile:
    """Appends records to a file.

    Args:
        path: the file.
        kept: what to keep of what is already there; the rest was written after the last checkpoint and will be written
            again.

    Raises:
        RunDirError: the file does not begin with what is to be kept.
    """

    def __init__(self, path: Path, kept: Kept = NOTHING) -> None:
        self._path = path
        with naming(path):
            self._hash = hashlib.sha256(kept_bytes(path, kept))
            path.touch()
            to_disk(path.parent)
            self._file: BinaryIO = path.open("r+b")
            self._file.truncate(kept.length)
            self._file.seek(kept.length)

    def write(self, record: Record) -> None:
        """Appends one record. Infinity and NaN become null."""
        plain = {key: _finite(value) for key, value in record.items()}
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        with naming(self._path):
            self._file.write(line)
        self._hash.update(line)

    def sync(self) -> Kept:
        """Puts all on the disk, ahead of the checkpoint that counts on it, and says how far the file has come."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return Kept(self._file.tell(), self._hash.hexdigest())

    def close(self) -> None:
        """Flushes and closes."""
        with naming(self._path):
            self._file.close()


def kept_bytes(path: Path, kept: Kept) -> bytes:
    """What is to be kept of a metrics file.

    Raises:
        RunDirError: it is missing, shorter than that, or something else stands there.
    """
    if kept == NOTHING:
        return b""
    length = path.stat().st_size if path.is_file() else None
    if length is None or length < kept.length:
        came = "is missing" if length is None else f"has {length} bytes"
        raise RunDirError(
            f"{path} {came}, but {kept.length} bytes of it were written before the checkpoint; restore it, or start "
            "the run again in another run_dir"
        )
    with path.open("rb") as file:
        found = file.read(kept.length)
    if hashlib.sha256(found).hexdigest() != kept.digest:
        raise RunDirError(
            f"{path} is not what it was when the checkpoint was written (its digest differs); restore it, or start "
            "the run again in another run_dir"
        )
    return found


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics file, in order; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    return value
