"""metrics.jsonl: one line for each record, each record once, however often a run was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

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
        path.touch()
        self._file: BinaryIO = path.open("r+b")
        self._file.truncate(length)
        self._file.seek(length)

    def write(self, record: Record) -> None:
        """Appends one record. Infinity and NaN become null."""
        plain = {key: _finite(value) for key, value in record.items()}
        self._file.write(json.dumps(plain, allow_nan=False).encode() + b"\n")

    def sync(self) -> int:
        """Hands everything to the operating system and returns the file's length in bytes."""
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Flushes and closes."""
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
