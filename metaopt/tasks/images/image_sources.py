"""The image data sets that can be named: where torchvision lays out their files, and how these are read."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from metaopt.errors import DataError
from metaopt.tasks.images.cifar_fs import CIFAR_FS
from metaopt.tasks.images.image_data import ImageSet, Labelled, Look, to_bank
from metaopt.tasks.images.image_files import read_cifar, read_mnist, read_svhn
from metaopt.types import Split

DIGITS = tuple(string.digits)
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
BALANCED = (*DIGITS, *string.ascii_uppercase, *"abdefghnqrt")
"""EMNIST's 47 balanced classes: fifteen small letters are one class with their capitals, which they resemble."""


@dataclass(frozen=True)
class Source:
    """A data set that torchvision knows.

    Attributes:
        files: its files below the root, those of the official training part and of the test part.
        read: reads them, in this order.
        torchvision: name of the class that fetches them.
        parts: the arguments, beside the root, of each call that it takes to fetch all.
        upright: whether a class, turned, may look like another, as a 6 and a 9 do.
        splits: a published split of its classes.
    """

    files: tuple[str, ...]
    read: Callable[[Sequence[Path]], Labelled]
    torchvision: str
    parts: tuple[dict[str, Any], ...] = ({},)
    upright: bool = False
    splits: Mapping[Split, Sequence[str]] | None = field(default=None, repr=False)


def _idx(folder: str, train: str = "train", test: str = "t10k") -> tuple[str, ...]:
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    return tuple(f"{folder}/raw/{part}-{kind}" for part in (train, test) for kind in kinds)


def _emnist(split: str, classes: Sequence[str], first: int = 0) -> Source:
    return Source(
        files=_idx("EMNIST", f"emnist-{split}-train", f"emnist-{split}-test"),
        read=partial(read_mnist, classes=classes, first=first, transposed=True),
        torchvision="EMNIST",
        parts=({"split": split},),
        upright=True,
    )


def _cifar100(splits: Mapping[Split, Sequence[str]] | None = None) -> Source:
    return Source(
        files=tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
        read=partial(read_cifar, names="fine_label_names"),
        torchvision="CIFAR100",
        splits=splits,
    )


SOURCES: dict[str, Source] = {
    "mnist": Source(_idx("MNIST"), partial(read_mnist, classes=DIGITS), "MNIST", upright=True),
    "fashion_mnist": Source(_idx("FashionMNIST"), partial(read_mnist, classes=FASHION), "FashionMNIST"),
    "kmnist": Source(_idx("KMNIST"), partial(read_mnist, classes=HIRAGANA), "KMNIST"),
    "emnist": _emnist("balanced", BALANCED),
    "emnist_letters": _emnist("letters", tuple(string.ascii_lowercase), first=1),
    "svhn": Source(
        ("train_32x32.mat", "test_32x32.mat"), read_svhn, "SVHN", ({"split": "train"}, {"split": "test"}), upright=True
    ),
    "cifar10": Source(
        files=tuple(
            f"cifar-10-batches-py/{name}"
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        ),
        read=partial(read_cifar, names="label_names"),
        torchvision="CIFAR10",
    ),
    "cifar100": _cifar100(),
    "cifar_fs": _cifar100(CIFAR_FS),
}


def find_source(dataset: str, root: str | Path, download: bool, look: Look) -> ImageSet:
    """A data set by name, its official training and test parts together.

    What is there is read as it is: archives are neither needed nor checked, and nothing is fetched. IDX files may be
    gzipped.

    Args:
        dataset: a key of `SOURCES`.
        root: the folder that torchvision is given as root.
        download: whether to fetch, through torchvision, what is missing.
        look: how the images shall look.

    Raises:
        DataError: files are missing, could not be fetched, or are broken.
    """
    source, paths = SOURCES[dataset], _find(dataset, root, download)
    try:
        data = source.read(paths)
        bank = to_bank(data, look)
    except ValueError as error:
        raise DataError(f"{dataset}: {error}; remove it and set tasks.download=true, or put it there again") from error
    numbered = tuple(name if name == str(i) else f"{i} {name}" for i, name in enumerate(data.classes))
    return ImageSet(data.classes, numbered, bank.counts, source.splits, lambda: bank)


def _find(dataset: str, root: str | Path, download: bool) -> list[Path]:
    source, home = SOURCES[dataset], Path(root).expanduser()
    paths = [_present(home / name) for name in source.files]
    if None in paths and download:
        _fetch(dataset, source, home)
        paths = [_present(home / name) for name in source.files]
    missing = [name for name, path in zip(source.files, paths, strict=True) if path is None]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        remedy = "remove what is there and try again" if download else "set tasks.download=true"
        raise DataError(
            f"{dataset}: tasks.root={root} should hold {missing[0]}{others}, but does not; "
            f"{remedy}, or put the extracted files there"
        )
    return [path for path in paths if path is not None]


def _present(path: Path) -> Path | None:
    zipped = path.with_name(f"{path.name}.gz")
    return path if path.is_file() else zipped if zipped.is_file() else None


def _fetch(dataset: str, source: Source, home: Path) -> None:
    from torchvision import datasets  # noqa: PLC0415 - slow to import, and only downloads need it

    try:
        home.mkdir(parents=True, exist_ok=True)
        for part in source.parts:
            getattr(datasets, source.torchvision)(str(home), download=True, **part)
    except (OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{dataset}: could not fetch the data into {home} ({first}); try again, or put the extracted files there"
        ) from error
