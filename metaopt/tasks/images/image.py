"""N-way tasks over labelled images: the usual data sets by name, or a folder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch

from metaopt.errors import TaskError
from metaopt.tasks.family import check_disjoint, hash_splits
from metaopt.tasks.images.image_data import Look, check_look
from metaopt.tasks.images.image_folder import find_images
from metaopt.tasks.images.image_sources import SOURCES, find_source
from metaopt.tasks.images.image_splits import SplitChoice, split_classes
from metaopt.tasks.images.ways import (
    ORIENTATIONS,
    ImageClass,
    WaySampler,
    WaySizes,
    check_fit,
    check_sizes,
    class_names,
)
from metaopt.types import Kind, Split, TaskBatch, TaskSpec

FOLDER = "image_folder"
DATASETS = (*SOURCES, FOLDER)


@final
class Images:
    """N-way tasks over a labelled image data set, in memory once read; pixels lie in [0, 1].

    Each class, with all its images, lies in one split. That is why the official training and test parts of a data set,
    which share their classes, are pooled.

    Args:
        dataset: "mnist", "fashion_mnist", "kmnist", "emnist" (its 47 balanced classes), "emnist_letters" (26), "svhn"
            (without the extra part), "cifar10", "cifar100", "cifar_fs" (CIFAR-100 with the published split), or
            "image_folder".
        root: the folder below which torchvision keeps the data set. For "image_folder" it holds a folder of images for
            each class, `CLASS/*.png`, or `train/CLASS/*`, `val/CLASS/*` and `test/CLASS/*`, which then are the splits.
        download: whether to fetch missing data through torchvision.
        n_way: classes per task.
        support: examples per class that the inner loop trains on.
        query: examples per class for the outer loss.
        test: examples per class for the final comparison.
        size: images are resized to size × size, antialiased; None: as they are.
        greyscale: whether colours become one channel, by their luma.
        rotations: whether each class turned by 90, 180 and 270 degrees is a further class. Not for digits and Latin
            letters, where a 6 turned is a 9.
        split_seed: decides which classes lie in which split; independent of every other seed.
        validation_classes: number of classes of meta-validation. None: a fifth of all; where that is less than three,
            three, but no more than a third. Ten classes make 4, 3 and 3; 47 make 29, 9 and 9; 100 make 60, 20 and 20.
        test_classes: number of classes of meta-test, likewise; meta-train has the rest.
        split_files: folder with train.txt, val.txt and test.txt, which list the classes of the splits instead, one on a
            line; classes that are not listed are not used.
        max_per_class: how many images of each class are kept, the first ones, to save memory; None: all.
        cache: whether to keep the decoded images of an image folder on disk for the next start.

    Raises:
        DataError: the data or the split files are missing or broken.
        TaskError: a setting is out of range or contradicts another, a split has too few classes or a class too few
            images for such tasks, or a class lies in two splits.
    """

    def __init__(
        self,
        dataset: str = "fashion_mnist",
        root: str | Path = "data",
        download: bool = False,
        n_way: int = 3,
        support: int = 100,
        query: int = 50,
        test: int = 100,
        size: int | None = None,
        greyscale: bool = False,
        rotations: bool = False,
        split_seed: int = 0,
        validation_classes: int | None = None,
        test_classes: int | None = None,
        split_files: str | Path | None = None,
        max_per_class: int | None = None,
        cache: bool = True,
    ) -> None:
        _check_dataset(dataset, rotations)
        # What a folder of images shows is best said by its own name.
        self.name = Path(root).expanduser().resolve().name or dataset if dataset == FOLDER else dataset
        sizes, look = WaySizes(n_way, support, query, test), Look(size, greyscale, max_per_class)
        check_sizes(dataset, sizes)
        check_look(dataset, look)
        images = find_images(root, look, cache) if dataset == FOLDER else find_source(dataset, root, download, look)
        choice = SplitChoice(split_seed, validation_classes, test_classes, split_files)
        subjects = split_classes(dataset, images.classes, choice, images.splits)
        check_disjoint(dataset, {split: [images.classes[i] for i in members] for split, members in subjects.items()})
        turns = ORIENTATIONS if rotations else ORIENTATIONS[:1]
        classes: dict[Split, list[ImageClass]] = {
            split: [ImageClass(i, t) for i in members for t in turns] for split, members in subjects.items()
        }
        self.splits: dict[Split, list[str]] = (
            class_names(classes, images.spelled)
            if rotations
            else {split: [images.spelled[i] for i in members] for split, members in subjects.items()}
        )
        self.split_hash = hash_splits(dataset, self.splits)
        remedy = "or set tasks.validation_classes and tasks.test_classes" if images.splits is None else ""
        check_fit(dataset, images.counts, classes, sizes, remedy)
        bank = images.read()
        shape = tuple(bank.images.shape[1:])
        if rotations and shape[1] != shape[2]:
            raise TaskError(
                f"{dataset}: tasks.rotations=true needs square images, but they are {shape[1]}×{shape[2]}; "
                "set tasks.size=84, say, to make them square"
            )
        self.spec = TaskSpec(Kind.classification, shape, n_way)
        self._sampler = WaySampler(dataset, bank, classes, sizes)

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks; see `WaySampler.sample`."""
        return self._sampler.sample(split, n, generator)

    def place(self, device: torch.device, most: int) -> None:
        """Keeps the images on another device; see `Placeable`."""
        self._sampler.place(device, most)


def _check_dataset(dataset: str, rotations: bool) -> None:
    if dataset not in DATASETS:
        raise TaskError(f"image: tasks.dataset={dataset} is not known; choose one of {', '.join(DATASETS)}")
    if rotations and dataset in SOURCES and SOURCES[dataset].upright:
        raise TaskError(
            f"{dataset}: tasks.rotations=true would make one class look like another, as a 6 upside down is a 9; "
            "set tasks.rotations=false"
        )
