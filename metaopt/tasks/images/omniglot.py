"""Omniglot: handwritten characters of fifty alphabets, twenty drawings of each."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch

from metaopt.tasks.family import check_disjoint, hash_splits
from metaopt.tasks.images.image_data import Look, check_look, treated
from metaopt.tasks.images.omniglot_cache import load_images
from metaopt.tasks.images.omniglot_data import SIDE, find_drawings
from metaopt.tasks.images.omniglot_splits import default_splits, read_splits
from metaopt.tasks.images.ways import ImageBank, WaySampler, WaySizes, check_sizes, class_names
from metaopt.types import Kind, Split, TaskBatch, TaskSpec

WHITE = 255


@final
class Omniglot:
    """N-way tasks over Omniglot's characters, 28×28 unless resized, ink 1.0 on paper 0.0.

    By default 1100 characters make meta-train, 100 meta-validation and 423 meta-test. All rotations of a character
    lie in one split.

    Args:
        root: folder with torchvision's layout, `omniglot-py/images_background/…` and `omniglot-py/images_evaluation/…`.
        n_way: classes per task.
        support: examples per class that the inner loop trains on.
        query: examples per class for the outer loss.
        test: examples per class for the final comparison.
        size: drawings are resized to size × size, antialiased; None: 28 × 28.
        rotations: whether each character turned by 90, 180 and 270 degrees is a further class.
        rotations_meet: whether two rotations of a character can be classes of one task. Not in the tasks of MAML's and
            MAML++'s code: a symmetrical character's could not be told apart.
        download: whether to fetch missing data through torchvision.
        split_files: folder with train.txt, val.txt and test.txt, which list the classes of the splits instead.
        split_seed: decides the default split; independent of every other seed.
        cache: whether to keep the decoded images on disk for the next start.

    Raises:
        DataError: the data or the split files are missing or broken.
        TaskError: a size is out of range, a split has too few classes or a class too few drawings for such tasks, or a
            character lies in two splits.
    """

    def __init__(
        self,
        root: str | Path = "data",
        n_way: int = 5,
        support: int = 1,
        query: int = 10,
        test: int = 9,
        size: int | None = None,
        rotations: bool = True,
        rotations_meet: bool = False,
        download: bool = False,
        split_files: str | Path | None = None,
        split_seed: int = 0,
        cache: bool = True,
    ) -> None:
        self.name = "omniglot"
        sizes, look = WaySizes(n_way, support, query, test), Look(size)
        check_sizes(self.name, sizes)
        check_look(self.name, look)
        self.spec = TaskSpec(Kind.classification, (1, size or SIDE, size or SIDE), n_way)
        listing = find_drawings(root, download)
        names = listing.characters
        classes = (
            default_splits(names, rotations, split_seed)
            if split_files is None
            else read_splits(split_files, names, rotations)
        )
        check_disjoint(self.name, {split: [names[c.subject] for c in members] for split, members in classes.items()})
        self.splits = class_names(classes, names)
        self.split_hash = hash_splits(self.name, self.splits)
        images = torch.from_numpy(load_images(root, listing, cache))
        counts = torch.full((len(names),), images.shape[1])
        bank = ImageBank(treated(images.flatten(0, 1).unsqueeze(1), look), counts, WHITE)
        settings = {"tasks.rotations": rotations, "tasks.rotations_meet": rotations_meet}
        missing = [f"{name}=true" for name, on in settings.items() if not on]
        remedy = f"or set {' and '.join(missing)}, which gives more" if missing else ""
        self._sampler = WaySampler(self.name, bank, classes, sizes, remedy, rotations_meet)

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks; see `WaySampler.sample`. Drawings are turned as they are drawn, which keeps memory small."""
        return self._sampler.sample(split, n, generator)

    def place(self, device: torch.device, most: int) -> None:
        """Keeps the images on another device; see `Placeable`."""
        self._sampler.place(device, most)
