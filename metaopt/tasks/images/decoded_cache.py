"""Decoded images on disk, so that a second start takes no minute."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from metaopt.files import remove_leftovers, replacing

_SURELY_DEAD = 3600.0
"""Seconds after which a temporary file belongs to nobody; writing one takes less."""


def cache_places(folder: Path, family: str, name: str) -> tuple[Path, Path]:
    """Where a cache may lie: beside the data, or below the user's cache folder where that is read-only.

    Args:
        folder: the folder of the data, absolute.
        family: name of the family.
        name: tells the caches of one folder apart, such as "28".

    Returns:
        The preferred place first.
    """
    # One file for each folder, so that two copies of the data don't overwrite each other's cache.
    key = sha256(str(folder).encode()).hexdigest()[:16]
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / f"metaopt-{name}.npz", user / "metaopt" / f"{family}-{name}-{key}.npz"


def load_cached(
    family: str,
    places: Sequence[Path],
    fingerprint: str,
    fits: Callable[[tuple[int, ...]], bool],
    decode: Callable[[], np.ndarray],
) -> np.ndarray:
    """Decoded images: from the cache where it fits the files, decoded and cached otherwise.

    Args:
        family: name of the family, for the note that no place can be written.
        places: where a cache may lie, the preferred place first.
        fingerprint: changes with the names and sizes of the files and with the way they are decoded.
        fits: whether images of this shape can be those of the files.
        decode: decodes them.

    Returns:
        The images, uint8.

    Raises:
        DataError: a file is not a readable image.
    """
    for place in places:
        images = _read(place, fingerprint)
        if images is not None and fits(images.shape):
            return images
    images = decode()
    if not any(_write(place, fingerprint, images) for place in places):
        wanted = " nor ".join(str(place) for place in places)
        print(f"{family}: neither {wanted} can be written; the next start will decode again", file=sys.stderr)
    return images


def _read(place: Path, fingerprint: str) -> np.ndarray | None:
    """The images in a cache file, or None where it is missing, broken, or made from other files."""
    try:
        # np.load on a path would leave the file open when the archive is truncated.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if str(content["fingerprint"]) != fingerprint:
                return None
            images = content["images"]
    except Exception:  # a damaged archive fails in a dozen ways, and the remedy for each is to decode again
        return None
    return images if images.dtype == np.uint8 else None


def _write(place: Path, fingerprint: str, images: np.ndarray) -> bool:
    try:
        if place.parent.is_dir():
            remove_leftovers(place.parent, seconds=_SURELY_DEAD)
        with replacing(place) as temporary:
            np.savez(temporary, images=images, fingerprint=np.array(fingerprint))
    except OSError:
        return False
    return True
