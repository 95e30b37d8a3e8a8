"""The decoded drawings on disk, so that a second start takes no minute."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np

from metaopt.files import replacing
from metaopt.tasks.omniglot_data import FOLDER, SIDE, Listing, decode


def load_images(root: str | Path, listing: Listing, cache: bool) -> np.ndarray:
    """The decoded drawings: from the cache where it fits the files, decoded and cached otherwise.

    Args:
        root: the data's root. The cache lies beside the data, or below the user's cache folder where that is read-only.
        listing: which drawings there are.
        cache: whether to read and write a cache at all.

    Returns:
        [characters, drawings, 28, 28], uint8.

    Raises:
        DataError: a file is not a readable image.
    """
    if not cache:
        return decode(listing)
    places = cache_places(root)
    for place in places:
        images = _read(place, listing)
        if images is not None:
            return images
    images = decode(listing)
    if not any(_write(place, listing, images) for place in places):
        wanted = " nor ".join(str(place) for place in places)
        print(f"omniglot: neither {wanted} can be written; the next start will decode again", file=sys.stderr)
    return images


def cache_places(root: str | Path) -> tuple[Path, Path]:
    """Where the cache may lie, the preferred place first."""
    home = Path(root).expanduser().resolve() / FOLDER
    # One file for each root, so that two copies of the data don't overwrite each other's cache.
    key = sha256(str(home).encode()).hexdigest()[:16]
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / f"metaopt-{SIDE}.npz", user / "metaopt" / f"omniglot-{SIDE}-{key}.npz"


def _read(place: Path, listing: Listing) -> np.ndarray | None:
    """The images in a cache file, or None where it is missing, broken, or made from other files."""
    try:
        # np.load on a path would leave the file open when the archive is truncated.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if str(content["fingerprint"]) != listing.fingerprint:
                return None
            characters, images = tuple(content["characters"].tolist()), content["images"]
    except Exception:  # a damaged archive fails in a dozen ways, and the remedy for each is to decode again
        return None
    expected = (len(listing.characters), len(listing.files[0]), SIDE, SIDE)
    fits = characters == listing.characters and images.shape == expected and images.dtype == np.uint8
    return images if fits else None


def _write(place: Path, listing: Listing, images: np.ndarray) -> bool:
    try:
        with replacing(place) as temporary:
            np.savez(
                temporary,
                images=images,
                characters=np.array(listing.characters),
                fingerprint=np.array(listing.fingerprint),
            )
    except OSError:
        return False
    return True
