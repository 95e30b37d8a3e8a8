"""Small folders in Omniglot's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

PARTS = {"images_background": ("Greek", "Latin"), "images_evaluation": ("Tengwar",)}


def write_omniglot(root: Path, characters: int = 3, drawings: int = 6) -> Path:
    """A small folder in Omniglot's layout: black strokes of random width on white, one-bit PNGs of 105×105."""
    generator = np.random.default_rng(0)
    for part, alphabets in PARTS.items():
        for alphabet in alphabets:
            for character in range(1, characters + 1):
                folder = root / "omniglot-py" / part / alphabet / f"character{character:02d}"
                folder.mkdir(parents=True)
                for drawing in range(1, drawings + 1):
                    image = np.full((105, 105), 255, dtype=np.uint8)
                    row, column, width = generator.integers(5, 45, size=3)
                    image[row : row + width + 5, column : column + 8] = 0
                    Image.fromarray(image).convert("1").save(folder / f"{character:04d}_{drawing:02d}.png")
    return root


def write_splits(folder: Path, train: str, val: str, test: str) -> Path:
    """The three split files, one class for each word."""
    folder.mkdir(exist_ok=True)
    for name, words in (("train", train), ("val", val), ("test", test)):
        (folder / f"{name}.txt").write_text("\n".join(words.split()) + "\n", encoding="utf-8")
    return folder
