"""The header of a safetensors file of any origin: looked at before anything else of the file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO

from metaopt.policies.strict_json import one_line, parse

# One key, because safetensors writes several in an order that changes from process to process.
KEY = "metaopt"
METADATA = "__metadata__"
MOST_TENSORS = 4096
"""Of a file; each takes some 3 kB in memory, however small it is."""
TYPES = ("F32", "F64")


def read_header(file: BinaryIO, size: int) -> tuple[bytes, dict[str, Any]]:
    """The beginning of a safetensors file, as it stands there and parsed.

    Args:
        file: at its beginning.
        size: of the file, in bytes.

    Raises:
        ValueError: it is none, or one that no policy has.
    """
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    text = file.read(length)
    header = parse(text)  # which a text that is too long is not
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    tensors = len(header) - (METADATA in header)
    if tensors > MOST_TENSORS:
        raise ValueError(f"{tensors} tensors; at most {MOST_TENSORS} are read")
    return start + text, header


def card_data(header: Mapping[str, Any]) -> Any:
    """What the header holds beside tensors, as plain data; None where there is nothing of ours.

    Raises:
        ValueError: what should be JSON is none.
    """
    metadata = header.get(METADATA)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    return parse(text.encode()) if isinstance(text, str) and text else None


def check_types(header: Mapping[str, Any]) -> None:
    """Raises ValueError where the tensors are not all of one type that a policy has."""
    entries = [entry for name, entry in header.items() if name != METADATA]
    found = sorted({str(entry.get("dtype") if isinstance(entry, dict) else entry) for entry in entries})
    if len(found) > 1 or not set(found) <= set(TYPES):
        raise ValueError(f"tensors of {one_line(', '.join(found))}, where a policy's are all {' or all '.join(TYPES)}")
