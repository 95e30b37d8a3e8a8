"""N-way classification tasks from images grouped by class; what the image families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from metaopt.errors import TaskError
from metaopt.types import Batch, Split, TaskBatch


@dataclass(frozen=True)
class WaySizes:
    """How large a task is.

    Attributes:
        n_way: classes per task.
        support: examples per class that the inner loop trains on.
        query: examples per class for the outer loss.
        test: examples per class for the final comparison.
    """

    n_way: int
    support: int
    query: int
    test: int


@dataclass(frozen=True)
class ImageBank:
    """Images grouped by what they show.

    Attributes:
        images: [images, channels, height, width], uint8; all of the first subject, then all of the second, and so on.
        counts: number of images of each subject, [subjects], int64.
        white: the value that becomes 1.0.
    """

    images: Tensor
    counts: Tensor
    white: int


class ImageClass(NamedTuple):
    """A class of a task: one subject of the bank in one orientation.

    Attributes:
        subject: row of the bank.
        turns: quarter turns, counter-clockwise, 0 to 3.
    """

    subject: int
    turns: int = 0


ORIENTATIONS = (0, 1, 2, 3)


def class_names(classes: Mapping[Split, Sequence[ImageClass]], subjects: Sequence[str]) -> dict[Split, list[str]]:
    """The classes of each split as its hash spells them: "Greek/character01/rot090".

    Args:
        classes: by split, its classes.
        subjects: name of each row of the bank.
    """
    return {split: [f"{subjects[c.subject]}/rot{90 * c.turns:03d}" for c in cs] for split, cs in classes.items()}


@final
class WaySampler:
    """Draws N-way tasks.

    Args:
        family: name of the family, for errors.
        bank: the images. Square where a class is turned.
        classes: by split, its classes.
        sizes: size of a task.
        remedy: how this family gives more classes, for the error; such as "or set tasks.rotations=true".
        meet: whether two orientations of a subject can be classes of one task.

    Raises:
        TaskError: a split has fewer classes than `n_way`, or fewer subjects where they don't `meet`; a class has fewer
            images than support, query and test need together; or a size is not positive.
    """

    def __init__(
        self,
        family: str,
        bank: ImageBank,
        classes: Mapping[Split, Sequence[ImageClass]],
        sizes: WaySizes,
        remedy: str = "",
        meet: bool = True,
    ) -> None:
        check_sizes(family, sizes)
        check_fit(family, bank.counts, classes, sizes, remedy, meet)
        self._sizes = sizes
        self._white = bank.white
        self._counts = bank.counts
        self._starts = bank.counts.cumsum(0) - bank.counts
        self._examples = int(bank.counts.max())
        self._shape = bank.images.shape[1:]
        # One row per image: picking whole rows is several times faster than indexing four dimensions.
        self._rows = bank.images.flatten(1)
        self._classes = {split: torch.tensor(list(members)) for split, members in classes.items()}
        self._turns = any(member.turns for members in classes.values() for member in members)
        self._meet = meet

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` tasks: distinct classes, and in each class distinct images for support, query and test.

        Args:
            split: where the classes come from.
            n: number of tasks.
            generator: a CPU generator; the only source of randomness.

        Returns:
            Inputs [tasks, n_way * examples, channels, height, width], float32 in [0, 1], and labels
            [tasks, n_way * examples], int64; grouped by class, where label i is the i-th of the classes as drawn.
        """
        subjects, turns = self._draw_classes(split, n, generator).unbind(-1)
        images = self._pick(subjects, self._draw_examples(subjects, generator), turns)
        sizes = (self._sizes.support, self._sizes.query, self._sizes.test)
        return TaskBatch(*(self._labelled(part) for part in images.split(sizes, dim=2)))

    def place(self, device: torch.device, most: int) -> None:
        """See `Placeable`; what is drawn at random is drawn on the CPU everywhere."""
        if self._rows.nbytes <= most:
            self._rows = self._rows.to(device)

    def _draw_classes(self, split: Split, n: int, generator: torch.Generator) -> Tensor:
        """Distinct classes in random order, [tasks, n_way, 2]: subject and turns."""
        classes = self._classes[split]
        keys = torch.rand(n, len(classes), generator=generator)
        if self._meet:
            return classes[keys.topk(self._sizes.n_way).indices]
        # So many hold n_way subjects, whichever they are.
        enough = min(len(ORIENTATIONS) * (self._sizes.n_way - 1) + 1, len(classes))
        drawn = classes[keys.topk(enough).indices]
        return drawn[torch.arange(n).unsqueeze(1), first_of_each(drawn[..., 0], self._sizes.n_way)]

    def _draw_examples(self, subjects: Tensor, generator: torch.Generator) -> Tensor:
        """Distinct examples of each subject, [tasks, n_way, support + query + test]."""
        keys = torch.rand(*subjects.shape, self._examples, generator=generator)
        beyond = torch.arange(self._examples) >= self._counts[subjects].unsqueeze(-1)
        needed = self._sizes.support + self._sizes.query + self._sizes.test
        return keys.masked_fill(beyond, -1.0).topk(needed).indices

    def _pick(self, subjects: Tensor, examples: Tensor, turns: Tensor) -> Tensor:
        """The images, turned: [tasks, n_way, examples, channels, height, width], uint8."""
        rows = self._starts[subjects].unsqueeze(-1) + examples
        # In one piece, because each way to another device takes time of its own.
        chosen = torch.cat([rows.flatten(), turns.flatten()]).to(self._rows.device)
        which, how = chosen.split([rows.numel(), turns.numel()])
        images = self._rows.index_select(0, which).view(-1, rows.shape[-1], *self._shape)
        if self._turns:
            images = (turned if images.device.type == "cpu" else turned_at_once)(images, how)
        return images.view(*rows.shape, *self._shape)

    def _labelled(self, images: Tensor) -> Batch:
        n, n_way, examples = images.shape[:3]
        labels = torch.arange(n_way, device=images.device).repeat_interleave(examples).repeat(n, 1)
        # Scaled last, because bytes are quicker to rearrange.
        return Batch(images.reshape(n, n_way * examples, *self._shape).float().div_(self._white), labels)


def first_of_each(subjects: Tensor, n: int) -> Tensor:
    """Where, from left to right, the first `n` different subjects of each row are first met.

    Args:
        subjects: [tasks, drawn]; at least `n` different ones in each row.
        n: number of subjects.

    Returns:
        Columns, [tasks, n], in ascending order.
    """
    again = (subjects.unsqueeze(2) == subjects.unsqueeze(1)).tril(-1).any(2)
    return again.sort(dim=1, stable=True).indices[:, :n]


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Images [classes, examples, channels, height, width], which may be written over, turned class by class."""
    for quarter in ORIENTATIONS[1:]:
        which = (turns == quarter).nonzero().squeeze(1)
        if len(which):
            images[which] = torch.rot90(images[which], quarter, (-2, -1))
    return images


def turned_at_once(images: Tensor, turns: Tensor) -> Tensor:
    """The same for a GPU, which rather turns images for nothing than says how many there are to turn; square ones."""
    for quarter in ORIENTATIONS[1:]:
        which = (turns == quarter).view(-1, 1, 1, 1, 1)
        images = torch.where(which, torch.rot90(images, quarter, (-2, -1)), images)
    return images


def check_sizes(family: str, sizes: WaySizes) -> None:
    """Make sure that tasks of these sizes can exist at all, before any data is read.

    Raises:
        TaskError: fewer than two ways, or a set without examples.
    """
    if sizes.n_way < 2:
        raise TaskError(f"{family}: tasks.n_way must be at least 2 classes, but is {sizes.n_way}; raise it")
    for key, size in (("support", sizes.support), ("query", sizes.query), ("test", sizes.test)):
        if size < 1:
            raise TaskError(f"{family}: tasks.{key} must be at least 1 example per class, but is {size}; raise it")


def check_fit(
    family: str,
    counts: Tensor,
    classes: Mapping[Split, Sequence[ImageClass]],
    sizes: WaySizes,
    remedy: str = "",
    meet: bool = True,
) -> None:
    """Make sure that there are classes and images enough, before any image is read.

    Args:
        family: name of the family, for errors.
        counts: number of images of each subject, [subjects].
        classes: by split, its classes.
        sizes: size of a task.
        remedy: how this family gives more classes.
        meet: whether two orientations of a subject can be classes of one task.

    Raises:
        TaskError: a split has fewer classes than `n_way`, or fewer subjects where they don't `meet`; or a class has
            fewer images than support, query and test need together.
    """
    available = {split: len(cs if meet else {c.subject for c in cs}) for split, cs in classes.items()}
    fewest = min(available.values())
    if fewest < sizes.n_way:
        found = ", ".join(f"{split} has {count}" for split, count in available.items())
        things = "classes" if meet else "classes, turned ones not counted,"
        raise TaskError(
            f"{family}: tasks.n_way={sizes.n_way} needs {sizes.n_way} {things} in each split, but {found}; "
            f"lower tasks.n_way to {fewest} or less{' ' + remedy if remedy else ''}"
        )

    subjects = {member.subject for members in classes.values() for member in members}
    smallest = int(counts[list(subjects)].min())
    needed = sizes.support + sizes.query + sizes.test
    if needed > smallest:
        raise TaskError(
            f"{family}: tasks.support={sizes.support}, tasks.query={sizes.query} and tasks.test={sizes.test} need "
            f"{needed} images per class, but the smallest class has {smallest}; "
            f"lower them by {needed - smallest} altogether"
        )
