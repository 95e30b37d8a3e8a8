"""Small image data sets in the files and formats of the real ones."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "emnist": "EMNIST"}


def legible(labels: Sequence[int], side: int = 28, channels: int = 1) -> np.ndarray:
    """Images [images, channels, side, side] that say what they are.

    The first pixel is the label, the next two are the image's number; each channel adds 50 of its own. The rest is
    nowhere symmetric.
    """
    images = np.zeros((len(labels), channels, side, side), np.uint8)
    images[..., 1:, :] = np.arange(side * (side - 1)).reshape(side - 1, side) % 51
    for column, values in enumerate((labels, np.arange(len(labels)) % 100, np.arange(len(labels)) // 100)):
        images[:, :, 0, column] = np.asarray(values)[:, None]
    return images + 50 * np.arange(channels, dtype=np.uint8)[:, None, None]


def shuffled_labels(classes: int, per_class: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), per_class))


def two_parts(classes: int, side: int = 28, channels: int = 1, train: int = 5, test: int = 2) -> list[tuple]:
    """Images and labels of an official training and test part; no two images are equal."""
    labels = [shuffled_labels(classes, per_class, seed) for seed, per_class in enumerate((train, test))]
    parts = [(legible(marks, side, channels), marks) for marks in labels]
    parts[1][0][:, :, -1, -1] += 100
    return parts


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, dataset: str = "fashion_mnist", zipped: bool = False) -> list[tuple]:
    """MNIST or one of its kin: ten classes, EMNIST's balanced 47, or its 26 letters, whose labels begin at 1."""
    folder, split = FOLDERS[dataset.partition("_")[0] if dataset.startswith("emnist") else dataset], ""
    classes, first, names = 10, 0, ("train", "t10k")
    if dataset.startswith("emnist"):
        split = "letters" if dataset.endswith("letters") else "balanced"
        classes, first = (26, 1) if split == "letters" else (47, 0)
        names = (f"emnist-{split}-train", f"emnist-{split}-test")
    home = root / folder / "raw"
    home.mkdir(parents=True, exist_ok=True)
    parts = two_parts(classes)
    for name, (images, labels) in zip(names, parts, strict=True):
        pixels = images[:, 0].transpose(0, 2, 1) if split else images[:, 0]
        for kind, array in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels + first)):
            content = idx(np.ascontiguousarray(array))
            path = home / (f"{name}-{kind}.gz" if zipped else f"{name}-{kind}")
            path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return parts


def write_cifar(root: Path, names: Sequence[str], batches: int = 1) -> list[tuple]:
    """CIFAR-100 or, in five batches, CIFAR-10, as Python 2 pickled them."""
    hundred = batches == 1
    home = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    home.mkdir(parents=True, exist_ok=True)
    parts = two_parts(len(names), 32, 3)
    train = ["train"] if hundred else [f"data_batch_{i + 1}" for i in range(batches)]
    pieces = [*zip(np.array_split(parts[0][0], batches), np.array_split(parts[0][1], batches), strict=True), parts[1]]
    for name, (images, labels) in zip([*train, "test" if hundred else "test_batch"], pieces, strict=True):
        batch: dict[str, Any] = {"batch_label": name, "data": images.reshape(len(images), -1)}
        batch["fine_labels" if hundred else "labels"] = labels.tolist()
        if hundred:
            batch["coarse_labels"] = [0] * len(labels)
        (home / name).write_bytes(python2_pickle(batch))
    meta = {"fine_label_names" if hundred else "label_names": list(names)}
    (home / ("meta" if hundred else "batches.meta")).write_bytes(python2_pickle(meta))
    return parts


def write_svhn(root: Path) -> list[tuple]:
    from scipy.io import savemat

    parts = two_parts(10, 32, 3)
    for name, (images, labels) in zip(("train", "test"), parts, strict=True):
        marks = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(root / f"{name}_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": marks})
    return parts


def write_folder(root: Path, classes: dict[str, int], side: int = 20, ending: str = "png") -> Path:
    """A folder with a sub-folder of coloured images for each class, "a" or "train/a"."""
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for number, image in enumerate(legible([label] * count, side=side, channels=3)):
            Image.fromarray(image.transpose(1, 2, 0)).save(root / name / f"{number:03d}.{ending}")
    return root


def python2_pickle(value: Any) -> bytes:
    """Protocol 2 as Python 2 wrote it: strings of bytes, and numpy's functions where they used to live."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: Any) -> bytes:
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode("latin1")
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    data = value.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_pickled, value.shape)) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
