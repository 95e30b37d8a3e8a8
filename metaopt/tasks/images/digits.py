"""Handwritten digits, 8×8: small image tasks that need no download."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from metaopt.errors import TaskError
from metaopt.tasks.family import check_disjoint, hash_splits, shuffled
from metaopt.tasks.images.image_data import Look, check_look, treated
from metaopt.tasks.images.ways import (
    ORIENTATIONS,
    ImageBank,
    ImageClass,
    WaySampler,
    WaySizes,
    check_sizes,
    class_names,
)
from metaopt.types import Batch, Kind, Split, TaskBatch, TaskSpec

DIGITS = tuple("0123456789")
DISTINCT_TURNS = {"0": 2, "1": 2, "8": 2, "6": 2, "9": 2}
"""Quarter turns that look different, where that is not all four: half a turn leaves 0, 1 and 8 and makes a 6 a 9."""
LEAST_CLASSES = 6
WHITE = 16
LEVELS = 15


@final
class Digits:
    """N-way tasks over scikit-learn's bundled digits.

    Five digits make meta-train, two meta-validation and three meta-test. All rotations of a digit lie in one split,
    and so do 6 and 9, because a 6 upside down is a 9. Rotations that look like another class are left out (an 8 upside
    down is an 8): 30 classes in all, and at least six in each split.

    Args:
        n_way: classes per task.
        support: examples per class that the inner loop trains on.
        query: examples per class for the outer loss.
        test: examples per class for the final comparison.
        rotations: whether each digit turned by 90, 180 and 270 degrees is a further class, where it looks like one.
        noise: standard deviation of Gaussian noise on every pixel (ink is 1.0, paper 0.0).
        split_seed: decides which digits lie in which split; independent of every other seed.
        size: height and width that the images are stretched to; None: 8, as they are.

    Raises:
        TaskError: a split has too few classes or a class too few images for such tasks, or `noise` is negative.
    """

    def __init__(
        self,
        n_way: int = 5,
        support: int = 10,
        query: int = 15,
        test: int = 40,
        rotations: bool = True,
        noise: float = 0.0,
        split_seed: int = 0,
        size: int | None = None,
    ) -> None:
        self.name = "digits"
        sizes = WaySizes(n_way, support, query, test)
        check_sizes(self.name, sizes)
        if not (math.isfinite(noise) and noise >= 0):
            raise TaskError(f"digits: tasks.noise must be a finite standard deviation, 0 or more, but is {noise}")
        digits = split_digits(split_seed)
        check_disjoint(self.name, digits)
        classes: dict[Split, list[ImageClass]] = {
            split: [ImageClass(int(digit), turn) for digit in members for turn in _turns(digit, rotations)]
            for split, members in digits.items()
        }
        self.splits = class_names(classes, DIGITS)
        self.split_hash = hash_splits(self.name, self.splits)
        check_look(self.name, Look(size))
        bank = _load_bank(Look(size))
        self.spec = TaskSpec(Kind.classification, tuple(bank.images.shape[1:]), n_way)
        remedy = "" if rotations else f"or set tasks.rotations=true, which gives at least {LEAST_CLASSES}"
        self._sampler = WaySampler(self.name, bank, classes, sizes, remedy)
        self._noise = noise

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks; see `WaySampler.sample`. The noise is drawn last: it changes no choice of images."""
        tasks = self._sampler.sample(split, n, generator)
        if self._noise == 0:
            return tasks
        return TaskBatch(*(Batch(_noisy(batch.x, self._noise, generator), batch.y) for batch in tasks))


def split_digits(split_seed: int) -> dict[Split, list[str]]:
    """The digits of each split.

    Every split of five, two and three digits with 6 and 9 together and, rotations counted, at least six classes in each
    part comes up equally often over the seeds.

    Args:
        split_seed: any whole number.

    Returns:
        By split, its digits in increasing order.
    """
    attempt = 0
    while True:
        order = shuffled(DIGITS, split_seed, salt=str(attempt))
        splits: dict[Split, list[str]] = {
            "meta_train": sorted(order[:5]),
            "meta_validation": sorted(order[5:7]),
            "meta_test": sorted(order[7:]),
        }
        together = any({"6", "9"} <= set(members) for members in splits.values())
        if together and all(sum(len(_turns(d, True)) for d in m) >= LEAST_CLASSES for m in splits.values()):
            return splits
        attempt += 1


def _turns(digit: str, rotations: bool) -> tuple[int, ...]:
    return ORIENTATIONS[: DISTINCT_TURNS.get(digit, len(ORIENTATIONS)) if rotations else 1]


def _noisy(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    return x + noise * torch.randn(x.shape, generator=generator)


def _load_bank(look: Look) -> ImageBank:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - slow to import, and only this family needs it

    pixels, targets = load_digits(return_X_y=True)
    images, labels = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 8, 8), torch.tensor(targets)
    by_digit = [images[labels == digit] for digit in range(len(DIGITS))]
    counts = torch.tensor([len(group) for group in by_digit])
    if look.size is None:
        return ImageBank(torch.cat(by_digit), counts, WHITE)
    # Stretching makes levels between the sixteen, for which there must be room.
    return ImageBank(treated(torch.cat(by_digit) * LEVELS, look), counts, WHITE * LEVELS)
