"""A file that `torch.save` wrote, of any origin: read without running anything in it or making more than it holds.

`torch.load(weights_only=True)` runs no code either, but makes whatever a file asks for: a view of a terabyte onto one
number, a byte array of any length. Here only the shape of file is read that plain values and whole tensors have.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_RECORDS = 2**14
LONGEST_DIRECTORY = 2**21
"""Bytes of the zip's table of contents."""
MOST_OPERATIONS = 2**14
"""Of the pickle, besides one for every eight bytes of the file: a tensor takes some thirty, and three hundred bytes."""
DEEPEST = 16
"""Containers within each other."""
LONGEST_INTEGER = 40
"""Digits."""

_STORAGES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "ByteStorage": torch.uint8,
}
_OPERATIONS = {
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("GLOBAL", "BINPERSID", "REDUCE"),
}
_TO_MARK = ("TUPLE", "APPENDS", "SETITEMS")
"""What takes all that stands on the stack since the last MARK."""
END = 22
"""Bytes of a zip's last record."""
_ATOMS = ("BINUNICODE", "GLOBAL")
"""What may be meant a second time: containers that are would unfold without end."""


def read_torch_file(data: bytes) -> Any:
    """The dictionaries, lists, tuples, texts, numbers and tensors that a file of `torch.save` holds.

    Args:
        data: the whole file.

    Returns:
        Nothing but these; every tensor is contiguous and has memory of its own, on the CPU.

    Raises:
        ValueError: the file holds anything else, or is no such file. No other exception is raised.
    """
    try:
        return _read(data)
    except ValueError:
        raise
    except Exception as error:  # of zipfile and pickle, which have many ways to fail
        raise ValueError(f"{type(error).__name__}: {error}") from error


def content_digest(content: Any) -> str:
    """SHA-256 of what `read_torch_file` reads: equal for equal keys, types, values, shapes and bytes.

    Raises:
        ValueError: the content holds something else, or is nested too deep.
    """
    return hashlib.sha256(json.dumps(_skeleton(content, 0), sort_keys=True).encode()).hexdigest()


def _skeleton(value: Any, depth: int) -> Any:
    """The value in terms of JSON, in which no two different values look alike."""
    if depth > DEEPEST:
        raise ValueError(f"containers nested deeper than {DEEPEST}")
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        return ["tensor", str(value.dtype), list(value.shape), hashlib.sha256(raw).hexdigest()]
    if isinstance(value, dict):
        pairs = [[_skeleton(key, depth + 1), _skeleton(below, depth + 1)] for key, below in value.items()]
        return ["dict", sorted(pairs, key=lambda pair: json.dumps(pair[0]))]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_skeleton(below, depth + 1) for below in value]]
    if value is None or type(value) in (bool, int, str):
        return [type(value).__name__, value]
    if type(value) is float:
        return ["float", value.hex()]
    raise ValueError(f"a {type(value).__name__}, where plain values and tensors are expected")


def _read(data: bytes) -> Any:
    _check_end(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = _records(archive, len(data))
        if records("byteorder") != b"little":
            raise ValueError("written on a machine of another byte order")
        text = records("data.pkl")
        _check_operations(text, MOST_OPERATIONS + len(data) // 8)
        unpickler = _Unpickler(text, records)
        content = unpickler.load()
    if unpickler.rebuilt != len(unpickler.used):
        raise ValueError("a storage without a tensor")
    return content


def _check_end(data: bytes) -> None:
    """Raises ValueError where a zip does not end as torch.save ends it, or has more records than it writes."""
    mark, count, directory, comment = struct.unpack("<4s4xH2xI4xH", data[-END:].rjust(END, b"\0"))
    if mark != b"PK\x05\x06" or comment:
        raise ValueError("it does not end as a zip of torch.save")
    if count > MOST_RECORDS or directory > LONGEST_DIRECTORY:
        raise ValueError(f"{count} records; at most {MOST_RECORDS} are read")


def _records(archive: zipfile.ZipFile, size: int) -> Callable[[str], bytes]:
    """The archive's records by name, without the folder that all are in; none is compressed."""
    found = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in found):
        raise ValueError("compressed records, which torch.save does not write")
    if sum(entry.file_size for entry in found) > size:
        raise ValueError("records that are larger than the file")
    by_name = {entry.filename.partition("/")[2]: entry for entry in found}
    if len(by_name) != len(found):
        raise ValueError("a record that comes twice")

    def read(name: str) -> bytes:
        if name not in by_name:
            raise ValueError(f"no record {name[:40]!r}")
        return archive.read(by_name[name])

    return read


def _check_operations(text: bytes, most: int) -> None:
    """Raises ValueError for a pickle that does anything but build plain values and tensors, or in more operations."""
    kept: list[bool] = []
    before, end, marks = "", 0, 0
    for count, (operation, argument, position) in enumerate(pickletools.genops(text)):
        name = operation.name
        if name not in _OPERATIONS:
            raise ValueError(f"a pickle with the operation {name}")
        marks += (name == "MARK") - (name in _TO_MARK)
        if count > most or not 0 <= marks <= DEEPEST:
            raise ValueError("a pickle too long or too deep")
        if name in ("BINPUT", "LONG_BINPUT"):
            if argument != len(kept):
                raise ValueError("a pickle whose memo is out of order")
            kept.append(before in _ATOMS)
        if name in ("BINGET", "LONG_BINGET") and not (argument < len(kept) and kept[argument]):  # type: ignore[operator]
            raise ValueError("a pickle that holds a container twice")
        if name == "LONG1" and len(str(argument)) > LONGEST_INTEGER:
            raise ValueError("an integer too long")
        before, end = name, position or 0
    if end != len(text) - 1:
        raise ValueError("bytes after the pickle's end")


class _Storage(NamedTuple):
    dtype: torch.dtype
    numel: int
    data: bytes


class _Unpickler(pickle.Unpickler):
    """Makes plain values, and tensors each of which is the whole of a storage of its own."""

    def __init__(self, text: bytes, records: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(text))
        self._records = records
        self.used: set[str] = set()
        self.rebuilt = 0

    def find_class(self, module: str, name: str) -> Any:
        """The few names that tensors need."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _no_hooks
        if module == "torch" and name in _STORAGES:
            return _Dtype(_STORAGES[name])
        raise ValueError(f"the name {module[:40]}.{name[:40]}, which plain values and tensors do not need")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, of which each is there once."""
        kind, dtype, key, place, numel = pid
        if kind != "storage" or not isinstance(dtype, _Dtype) or place != "cpu" or type(key) is not str:
            raise ValueError("a storage of an unknown kind")
        if key in self.used:
            raise ValueError("two tensors that share a storage")
        self.used.add(key)
        data = self._records(f"data/{key}")
        if type(numel) is not int or numel * dtype.dtype.itemsize != len(data):
            raise ValueError("a storage of another size than its record")
        return _Storage(dtype.dtype, numel, data)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, needs_grad: Any, hooks: Any) -> Tensor:
        if not isinstance(storage, _Storage) or offset != 0 or needs_grad is not False or hooks != {}:
            raise ValueError("a tensor of an unknown kind")
        if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError("a tensor of an impossible shape")
        if len(shape) > DEEPEST or math.prod(shape) != storage.numel:
            raise ValueError("a tensor that is not the whole of its storage")
        whole = torch.frombuffer(bytearray(storage.data), dtype=storage.dtype) if storage.numel else None
        tensor = torch.empty(shape, dtype=storage.dtype) if whole is None else whole.reshape(shape)
        if storage.numel and stride != tensor.stride():
            raise ValueError("a tensor that is not contiguous")
        self.rebuilt += 1
        return tensor


class _Dtype(NamedTuple):
    dtype: torch.dtype


def _no_hooks() -> dict[str, Any]:
    return {}
