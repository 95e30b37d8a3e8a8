"""metrics.jsonl: one line for each record, each record once, however often a run was interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from metaopt.files import naming, to_disk

Record: TypeAlias = dict[str, Any]
"""Plain values; `kind` says what it reports. Wall times stay out, so that equal runs leave equal files."""


class MetricsFile:
    """Appends records to a file.

    Args:
        path: the file.
        length: bytes to keep of what is already there; the rest was written after the last checkpoint and will be
            written again.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self._path = path
        with naming(path):
            path.touch()
            to_disk(path.parent)
            self._file: BinaryIO = path.open("r+b")
            self._file.truncate(length)
            self._file.seek(length)

    def write(self, record: Record) -> None:
        """Appends one record. Infinity and NaN become null."""
        plain = {key: _finite(value) for key, value in record.items()}
        with naming(self._path):
            self._file.write(json.dumps(plain, allow_nan=False).encode() + b"\n")

    def sync(self) -> int:
        """Puts all on the disk, ahead of the checkpoint that counts on it; returns the file's length in bytes."""
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Flushes and closes."""
        with naming(self._path):
            self._file.close()


def read_metrics(path: Path) -> list[Record]:
    """The records of a metrics file, in order; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    return value
