"""Policy files made by hand: any bytes, any header, any card, with the digest that is right for them."""

import hashlib
import json
import struct

import numpy as np

TYPES = {"float32": "F32", "float64": "F64", "int32": "I32", "int64": "I64", "float16": "F16", "bool": "BOOL"}


def digest_of(card, arrays):
    """The digest of a card without one and of numpy arrays by name, as the documentation has it."""
    found = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(json.dumps([name, f"torch.{array.dtype}", list(array.shape)]).encode() + array.tobytes())
    return found.hexdigest()


def signed(card, arrays):
    """A card with its digest."""
    return card | {"digest": digest_of(card, arrays)}


def arrays_of(tensors):
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def file_of(arrays, card_text, entries=None):
    """The bytes of a file.

    Args:
        arrays: by name.
        card_text: the card, a string; None: no metadata.
        entries: take the place of the header's entries for the arrays.
    """
    header, at = {} if card_text is None else {"__metadata__": {"metaopt": card_text}}, 0
    for name, array in arrays.items():
        kind = TYPES[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    return with_header(json.dumps(header | (entries or {})), b"".join(a.tobytes() for a in arrays.values()))


def with_header(text, data=b""):
    """A file of a header's text and data."""
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data


def parts_of(data):
    """Header, as text, and the data of a file's bytes."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end].decode(), data[end:]


def card_in(data):
    """The card in a file's bytes, as a dictionary."""
    return json.loads(json.loads(parts_of(data)[0])["__metadata__"]["metaopt"])


def arrays_in(data):
    """The arrays in a file's bytes, in the order of their bytes."""
    text, numbers = parts_of(data)
    entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
    kinds = {kind: name for name, kind in TYPES.items()}
    found = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        found[name] = np.frombuffer(numbers[begin:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return found
