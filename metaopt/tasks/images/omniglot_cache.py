"""The decoded drawings on disk; see `decoded_cache`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metaopt.tasks.images import decoded_cache
from metaopt.tasks.images.omniglot_data import FOLDER, SIDE, Listing, decode


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
    expected = (len(listing.characters), len(listing.files[0]), SIDE, SIDE)
    return decoded_cache.load_cached(
        "omniglot", cache_places(root), listing.fingerprint, lambda shape: shape == expected, lambda: decode(listing)
    )


def cache_places(root: str | Path) -> tuple[Path, Path]:
    """Where the cache may lie, the preferred place first."""
    return decoded_cache.cache_places(Path(root).expanduser().resolve() / FOLDER, "omniglot", str(SIDE))
