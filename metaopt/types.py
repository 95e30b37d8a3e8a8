"""The nouns that every other module speaks in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

CPU = torch.device("cpu")

Params: TypeAlias = dict[str, Tensor]
"""A model's parameters, or anything with one tensor for each of them, by name."""

Split: TypeAlias = Literal["meta_train", "meta_validation", "meta_test"]
SPLITS: tuple[Split, ...] = ("meta_train", "meta_validation", "meta_test")


class Kind(str, Enum):
    """What a task asks for; it decides the loss and whether there is an accuracy."""

    classification = "classification"
    regression = "regression"


class Batch(NamedTuple):
    """Examples of one task, or of many when there is a leading task dimension.

    Attributes:
        x: inputs, [examples, *input] or [tasks, examples, *input]; floating point, or whole numbers, such as ids, that
            reach a model of one's own as they are and are numbers to metaopt's own. In a padded family NaN fills the
            last columns, those that a task does not have, until training on it begins.
        y: targets; class indices [..., examples] (int64), or values [..., examples, outputs] for regression. In a
            padded family classes are told [..., examples, classes] (int64): 1 at the example's class, 0 at the task's
            other classes, -1 at those that the task does not have.
    """

    x: Tensor
    y: Tensor


class TaskBatch(NamedTuple):
    """Tasks side by side; every tensor has the leading dimension [tasks].

    Attributes:
        support: what the inner loop trains on.
        query: what the outer loss is measured on.
        test: what neither training nor any search ever sees; for the final comparison only.
    """

    support: Batch
    query: Batch
    test: Batch


@dataclass(frozen=True)
class TaskSpec:
    """What a model must know of a family to fit it.

    Attributes:
        kind: classification or regression.
        input_shape: shape of one input, without batch dimensions; images are (channels, height, width).
        output_size: number of classes, or of regression targets.
        padded: whether tasks differ in the number of columns or classes; then the sizes above are the largest, and
            batches say what is padding (see `Batch`).
        vocabulary: where inputs are ids of words, whole numbers from 0 on: how many words there are. None: numbers.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    output_size: int
    padded: bool = False
    vocabulary: int | None = None


Loss: TypeAlias = Callable[[Params, Batch], Tensor]
"""(params, batch of one task) -> scalar loss. Pure."""
