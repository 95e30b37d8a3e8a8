"""A folder of images with a sub-folder for each class: listed, decoded, and cached."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from metaopt.errors import DataError
from metaopt.tasks.family import check_disjoint
from metaopt.tasks.images.decoded_cache import cache_places, load_cached
from metaopt.tasks.images.image_data import WHITE, ImageSet, Look, treated
from metaopt.tasks.images.ways import ImageBank
from metaopt.types import Split

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
PARTS: dict[Split, str] = {"meta_train": "train", "meta_validation": "val", "meta_test": "test"}

_RECIPE = "bilinear, antialiased, format 1"
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that it cannot decode."""


@dataclass(frozen=True)
class _Listing:
    """Which images there are.

    Attributes:
        home: the folder.
        files: for each class its images, in alphabetical order.
        fingerprint: changes with the names and sizes of the files and with the way they are decoded.
    """

    home: Path
    files: tuple[tuple[Path, ...], ...]
    fingerprint: str


def find_images(root: str | Path, look: Look, cache: bool) -> ImageSet:
    """The images `root/CLASS/*`, or `root/{train,val,test}/CLASS/*` whose three parts are the splits.

    Classes and files are taken in alphabetical order. Files have one of `ENDINGS`; others are left aside.

    Args:
        root: the folder.
        look: how the images shall look.
        cache: whether to keep the decoded images on disk: in the folder, or below the user's cache folder where that is
            read-only.

    Raises:
        DataError: the folder, a part or the images of a class are missing; from `read`, a file is not a readable image,
            or sizes differ where none is given.
        TaskError: a class lies in two parts.
    """
    home = Path(root).expanduser()
    if not home.is_dir():
        raise DataError(
            f"image_folder: tasks.root={root} should be a folder with a sub-folder for each class, but there is none; "
            "put the images there, or give tasks.root=DIR"
        )
    parts = _parts(home)
    inside = {part: _folders(home / part) for part in parts} if parts else {"": _folders(home)}
    splits: dict[Split, list[str]] | None = None
    if parts:
        splits = {split: [folder.name for folder in inside[part]] for split, part in PARTS.items()}
        check_disjoint("image_folder", splits)
    folders = list(chain.from_iterable(inside.values()))
    if not folders:
        raise DataError(
            f"image_folder: tasks.root={root} should have a sub-folder for each class, but has none; "
            "sort the images into one for each class"
        )
    pictures = [_pictures(folder)[: look.max_per_class] for folder in folders]
    digest = sha256(_RECIPE.encode())
    for folder, files in zip(folders, pictures, strict=True):
        names = [(path.name, size) for path, size in files]
        digest.update(f"\n{folder.relative_to(home).as_posix()}:{names}".encode())
    listing = _Listing(home, tuple(tuple(path for path, _ in files) for files in pictures), digest.hexdigest())
    names = tuple(folder.name for folder in folders)
    counts = torch.tensor([len(files) for files in pictures])
    return ImageSet(names, names, counts, splits, lambda: _load(listing, counts, look, cache))


def _load(listing: _Listing, counts: Tensor, look: Look, cache: bool) -> ImageBank:
    total, channels = int(counts.sum()), 1 if look.greyscale else 3

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == 4 and shape[:2] == (total, channels) and look.size in (None, shape[2])

    if cache:
        kind = f"{look.size or 'original'}-{'grey' if look.greyscale else 'rgb'}"
        places = cache_places(listing.home.resolve(), "images", kind)
        images = load_cached("image_folder", places, listing.fingerprint, fits, lambda: _decode(listing, look))
    else:
        images = _decode(listing, look)
    return ImageBank(torch.from_numpy(images), counts, WHITE)


def _decode(listing: _Listing, look: Look) -> np.ndarray:
    """All images, [images, channels, height, width], with a progress bar on standard error."""
    paths = list(chain.from_iterable(listing.files))
    first = _decode_file(paths[0], look)
    images = torch.empty(len(paths), *first.shape, dtype=torch.uint8)
    console = Console(stderr=True)
    numbers: Sequence[int] = range(len(paths))
    for number in track(numbers, "Decoding images", console=console, transient=True, disable=not console.is_terminal):
        image = _decode_file(paths[number], look)
        if image.shape != first.shape:
            found = [f"{path} has {i.shape[1]}×{i.shape[2]}" for path, i in ((paths[0], first), (paths[number], image))]
            raise DataError(
                f"image_folder: images must have one size, but {' and '.join(found)}; set tasks.size=84, say, "
                "to resize all"
            )
        images[number] = image
    return images.numpy()


def _decode_file(path: Path, look: Look) -> Tensor:
    """One image, [channels, height, width]."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise DataError(
                    f"image_folder: images have 8 bits per channel, but {path} has more (Pillow's mode {image.mode}); "
                    "convert it"
                )
            # A copy, because torch wants memory that can be written to.
            pixels = np.array(image.convert("RGB"))
    except _BROKEN as error:
        raise DataError(f"image_folder: {path} cannot be decoded as an image; replace or remove it") from error
    return treated(torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0), look)[0]


def _parts(home: Path) -> tuple[str, ...]:
    """The sub-folders that are the splits, or none where sub-folders are classes."""
    present = [part for part in PARTS.values() if (home / part).is_dir() and _folders(home / part)]
    missing = [part for part in PARTS.values() if part not in present]
    if present and missing:
        raise DataError(
            f"image_folder: {home} is divided into {' and '.join(present)}, but has no {' and no '.join(missing)} with "
            "classes in it; add it, or give tasks.root a folder whose sub-folders are the classes"
        )
    return tuple(present)


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path) -> list[tuple[Path, int]]:
    """The images of a class and their sizes in bytes."""
    with os.scandir(folder) as entries:
        found = sorted(
            (Path(entry.path), entry.stat().st_size)
            for entry in entries
            if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith(".")
        )
    if not found:
        raise DataError(f"image_folder: {folder} holds no image ({', '.join(ENDINGS)}); add some, or remove the folder")
    return found
