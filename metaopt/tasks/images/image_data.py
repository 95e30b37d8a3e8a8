"""Labelled images in memory: sorted by class, thinned out, made grey and resized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from metaopt.errors import TaskError
from metaopt.tasks.images.ways import ImageBank
from metaopt.types import Split

WHITE = 255
_CHUNK = 10_000  # images at a time, where they take more room for a while
_LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 65536ths, ITU-R BT.601; Pillow rounds in the same way."""


@dataclass(frozen=True)
class Look:
    """What is done to the images of a data set, once.

    Attributes:
        size: side of the square that they are resized to, or None.
        greyscale: whether colours become one channel.
        max_per_class: how many images of each class are kept, the first ones; None: all.
    """

    size: int | None = None
    greyscale: bool = False
    max_per_class: int | None = None


@dataclass(frozen=True)
class Labelled:
    """A labelled data set as its files hold it.

    Attributes:
        images: [images, channels, height, width], uint8.
        labels: class of each image, [images], int64.
        classes: the classes' names, in the order of their labels.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ImageSet:
    """A data set of images by class, whose images may not have been decoded yet.

    Attributes:
        classes: names of the classes.
        spelled: the same as the hash of the splits spells them. Where the data set numbers its classes, the number is
            there too, so that the hash changes when their order does.
        counts: number of images of each class, [classes], int64.
        splits: the split that the data set comes with, if it does.
        read: gives the images.
    """

    classes: tuple[str, ...]
    spelled: tuple[str, ...]
    counts: Tensor
    splits: Mapping[Split, Sequence[str]] | None
    read: Callable[[], ImageBank]


def check_look(family: str, look: Look) -> None:
    """Make sure that images can look like that.

    Raises:
        TaskError: a size or a number is not positive.
    """
    for key, value in (("size", look.size), ("max_per_class", look.max_per_class)):
        if value is not None and value < 1:
            raise TaskError(f"{family}: tasks.{key} must be 1 or more, or null, but is {value}; raise it")


def to_bank(data: Labelled, look: Look) -> ImageBank:
    """The images by class, in the order of the labels and within a class in that of the files.

    Raises:
        ValueError: there is not one label for each image, or a label stands for no class.
    """
    if data.images.shape[0] != data.labels.shape[0]:
        raise ValueError(f"hold {data.images.shape[0]} images, but {data.labels.shape[0]} labels")
    if data.labels.numel() and not 0 <= int(data.labels.min()) <= int(data.labels.max()) < len(data.classes):
        found = f"{int(data.labels.min())} to {int(data.labels.max())}"
        raise ValueError(f"hold labels from {found}, but the labels of {len(data.classes)} classes begin at 0")
    counts = torch.bincount(data.labels, minlength=len(data.classes))
    order = data.labels.argsort(stable=True)
    if look.max_per_class is not None:
        rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[data.labels[order]]
        order = order[rank < look.max_per_class]
        counts = counts.clamp(max=look.max_per_class)
    return ImageBank(treated(data.images[order], look), counts, WHITE)


def treated(images: Tensor, look: Look) -> Tensor:
    """Images in grey and in the size that is asked for.

    Bilinear, with the filter widened where images shrink (antialiased); what is not square is stretched.

    Args:
        images: [images, channels, height, width], uint8, channels grey or red, green, blue.
        look: what is asked for.
    """
    if look.greyscale and images.shape[1] == 3:
        images = torch.cat([_grey(chunk) for chunk in images.split(_CHUNK)])
    if look.size is None or images.shape[-2:] == (look.size, look.size):
        return images
    square = (look.size, look.size)
    return torch.cat([interpolate(chunk, square, mode="bilinear", antialias=True) for chunk in images.split(_CHUNK)])


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.int32).view(3, 1, 1)
    return ((images * weights).sum(1, keepdim=True, dtype=torch.int32) + 2**15 >> 16).to(torch.uint8)
