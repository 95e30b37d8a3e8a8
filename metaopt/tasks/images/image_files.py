"""The file formats of the usual image data sets: IDX (MNIST and its kin), CIFAR's batches, SVHN's .mat."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaopt.tasks.images.image_data import Labelled
from metaopt.tasks.images.image_pickle import load_plain

_UINT8 = 8
_CIFAR = (3, 32, 32)


def read_mnist(paths: Sequence[Path], classes: Sequence[str], first: int = 0, transposed: bool = False) -> Labelled:
    """MNIST or a set of its format.

    Args:
        paths: files of images and of labels by turns, gzipped or not.
        classes: the classes' names.
        first: label of the first of them.
        transposed: whether the files hold columns where rows should be, as EMNIST's do.

    Raises:
        ValueError: a file is not of that format, or is cut off.
    """
    images = torch.cat([_read_idx(path, 3) for path in paths[::2]])
    labels = torch.cat([_read_idx(path, 1) for path in paths[1::2]])
    upright = images.transpose(1, 2) if transposed else images
    return Labelled(upright.unsqueeze(1), labels.long() - first, tuple(classes))


def read_cifar(paths: Sequence[Path], names: str) -> Labelled:
    """CIFAR-10 or CIFAR-100 with its fine labels, from the batches for Python.

    Args:
        paths: the batches, and last the file with the classes' names.
        names: the key of the names in it.

    Raises:
        ValueError: a file is not of that format, or is more than plain data.
    """
    *batches, meta = paths
    images, labels = [], []
    for path in batches:
        batch = _pickled(path)
        data, marks = batch.get("data"), batch.get("labels", batch.get("fine_labels"))
        if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != np.prod(_CIFAR):
            raise ValueError(f"{path} holds no 'data' with {np.prod(_CIFAR)} bytes for each image")
        if not isinstance(marks, list) or not all(isinstance(mark, int) for mark in marks):
            raise ValueError(f"{path} holds no list of labels")
        images.append(torch.from_numpy(data.copy()).view(-1, *_CIFAR))
        labels += marks
    classes = _pickled(meta).get(names)
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{meta} holds no list '{names}' of the classes' names")
    return Labelled(torch.cat(images), torch.tensor(labels, dtype=torch.int64), tuple(classes))


def read_svhn(paths: Sequence[Path]) -> Labelled:
    """The cropped street view house numbers; the files call the digit 0 class 10.

    Raises:
        ValueError: a file is not of that format.
    """
    from scipy.io import loadmat  # noqa: PLC0415 - only SVHN needs it

    images, labels = [], []
    for path in paths:
        try:
            content = loadmat(path, variable_names=("X", "y"))
            pixels, marks = content["X"], content["y"].ravel().astype(np.int64)
        except Exception as error:  # a damaged file fails in a dozen ways
            raise ValueError(f"{path} cannot be read as a .mat file with X and y ({type(error).__name__})") from error
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2] != 3:
            raise ValueError(f"{path} holds X of {pixels.dtype} {pixels.shape}, not uint8 (height, width, 3, images)")
        images.append(torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))))
        labels.append(torch.from_numpy(np.where(marks == 10, 0, marks)))
    return Labelled(torch.cat(images), torch.cat(labels), tuple("0123456789"))


def _read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of a file in the format that the home page of MNIST (LeCun, Cortes, Burges) describes."""
    content = _content(path)
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UINT8, dimensions)) or len(content) < start:
        raise ValueError(f"{path} is no IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != np.prod(shape, dtype=np.int64):
        announced = "×".join(map(str, shape))
        raise ValueError(f"{path} announces {announced} bytes, but holds {len(content) - start}")
    # A copy, because torch wants memory that can be written to.
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _pickled(path: Path) -> dict[str, Any]:
    try:
        found = load_plain(_content(path))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no dictionary")
    return found


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
