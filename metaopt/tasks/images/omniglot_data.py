"""Omniglot's drawings from disk: found, fetched where asked, and decoded to small arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from metaopt.errors import DataError

FOLDER = "omniglot-py"
PARTS = ("images_background", "images_evaluation")
SIDE = 28

_RECIPE = f"{SIDE}x{SIDE}, Lanczos, ink 255, format 1"


@dataclass(frozen=True)
class Listing:
    """Which drawings there are.

    Attributes:
        characters: "Alphabet/characterNN", the background alphabets first, in alphabetical order.
        files: for each character its drawings, equally many for all.
        fingerprint: changes with the names and sizes of the files and with the way they are decoded.
    """

    characters: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    fingerprint: str


def find_drawings(root: str | Path, download: bool) -> Listing:
    """List the drawings below a root laid out as torchvision does; the zip files are not needed.

    Args:
        root: holds `omniglot-py/images_background/Alphabet/characterNN/*.png`, and `images_evaluation` likewise.
        download: whether to fetch, through torchvision, folders that are missing.

    Raises:
        DataError: folders are missing, could not be fetched, or are incomplete.
    """
    home = Path(root).expanduser() / FOLDER
    missing = [part for part in PARTS if not (home / part).is_dir()]
    if missing and download:
        for part in missing:
            _download(home.parent, part)
        missing = [part for part in PARTS if not (home / part).is_dir()]
    if missing:
        remedy = (
            f"remove the zip files in {home} and try again, or extract them there"
            if download
            else "set tasks.download=true, or put the extracted folders there"
        )
        raise DataError(
            f"omniglot: expected {' and '.join(PARTS)} in {home}, but found no {' and no '.join(missing)}; {remedy}"
        )
    return _list_drawings(home)


def decode(listing: Listing) -> np.ndarray:
    """Read all drawings, with a progress bar on standard error.

    Returns:
        [characters, drawings, 28, 28], uint8: ink is 255 and paper 0.

    Raises:
        DataError: a file is not a readable image.
    """
    images = np.empty((len(listing.characters), len(listing.files[0]), SIDE, SIDE), dtype=np.uint8)
    console = Console(stderr=True)
    rows: Sequence[int] = range(len(images))
    for row in track(rows, "Decoding Omniglot", console=console, transient=True, disable=not console.is_terminal):
        for column, path in enumerate(listing.files[row]):
            images[row, column] = _decode_file(path)
    return images


def _decode_file(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reports a broken PNG as any of these
        raise DataError(
            f"omniglot: expected a PNG image, but {path} cannot be decoded; extract the data again"
        ) from error
    return 255 - np.asarray(small)


def _list_drawings(home: Path) -> Listing:
    found: dict[str, list[tuple[Path, int]]] = {}
    for part in PARTS:
        for alphabet in _folders(home / part):
            for folder in _folders(alphabet):
                character = f"{alphabet.name}/{folder.name}"
                if character in found:
                    raise DataError(
                        f"omniglot: {character} lies in both {PARTS[0]} and {PARTS[1]} of {home}, but must be in one; "
                        "extract the data again"
                    )
                found[character] = _pictures(folder)
    _check_complete(home, found)
    digest = sha256(_RECIPE.encode())
    for character, files in found.items():
        digest.update(f"\n{character}:{[(path.name, size) for path, size in files]}".encode())
    drawings = tuple(tuple(path for path, _ in files) for files in found.values())
    return Listing(tuple(found), drawings, digest.hexdigest())


def _check_complete(home: Path, found: dict[str, list[tuple[Path, int]]]) -> None:
    most = max((len(files) for files in found.values()), default=0)
    if most == 0:
        raise DataError(
            f"omniglot: expected Alphabet/characterNN/*.png below {home}, but found none; extract the data again"
        )
    for character, files in found.items():
        if len(files) != most:
            raise DataError(
                f"omniglot: expected {most} drawings of every character, but {character} in {home} has {len(files)}; "
                "extract the data again"
            )


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path) -> list[tuple[Path, int]]:
    """The PNG files of a folder and their sizes in bytes."""
    with os.scandir(folder) as entries:
        pictures = [entry for entry in entries if entry.name.endswith(".png") and not entry.name.startswith(".")]
        return sorted((Path(entry.path), entry.stat().st_size) for entry in pictures)


def _download(root: Path, part: str) -> None:
    from torchvision.datasets import Omniglot  # noqa: PLC0415 - slow to import, and only downloads need it

    try:
        Omniglot(str(root), background=part == PARTS[0], download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"omniglot: could not fetch {part} into {root / FOLDER} ({error}); "
            "try again, or put the extracted folder there"
        ) from error
