"""CIFAR's batches: pickles, read without letting them run anything."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_DTYPE = "u1"


def load_plain(content: bytes) -> Any:
    """Unpickle text, numbers, lists, dictionaries and arrays of bytes; nothing else is ever called or imported.

    A pickle is a program that may call whatever it names. This reader knows the three names with which numpy describes
    an array, and even there numpy itself is not called: what they build is put together here.

    Args:
        content: a pickle of any protocol, of Python 2 too.

    Returns:
        The object, where each array of uint8 is a numpy array.

    Raises:
        ValueError: it is no pickle, is cut off, or names anything else.
    """
    try:
        return _arrays(_reader(content).load())
    except pickle.UnpicklingError as error:
        raise ValueError(f"cannot be read ({error})") from error
    except Exception as error:  # a damaged pickle fails in a dozen ways
        raise ValueError(f"cannot be read ({type(error).__name__})") from error


def _reader(content: bytes) -> pickle.Unpickler:
    """A reader whose stand-ins are its own, so that what one file does to them is gone with it."""

    class Dtype:
        def __init__(self, kind: str, *_: object) -> None:
            if kind.lstrip("|") != _DTYPE:
                raise pickle.UnpicklingError(f"an array of {kind} instead of {_DTYPE}")

        def __setstate__(self, _: object) -> None: ...

    class Array:
        def __init__(self, *_: object) -> None:
            self.value = np.empty(0, np.uint8)

        def __setstate__(self, state: tuple[int, tuple[int, ...], object, bool, str | bytes]) -> None:
            _, shape, _, by_column, data = state
            data = data.encode("latin1") if isinstance(data, str) else data
            self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_column else "C")

    def encode(text: str, *_: object) -> bytes:
        return text.encode("latin1")

    known: dict[tuple[str, str], Callable[..., object]] = {
        **{(module, "_reconstruct"): Array for module in _ARRAYS},
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): encode,
    }

    class Reader(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str) -> Any:
            if (module_name, global_name) not in known:
                raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which data do not need")
            return known[module_name, global_name]

    return Reader(io.BytesIO(content), encoding="latin1")


def _arrays(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _arrays(value) for key, value in found.items()}
    return getattr(found, "value", found)
