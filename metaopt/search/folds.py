"""Cross-validation on support sets, for tasks that are too small to spare a validation set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.trees import count_tasks
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec


class Folds(NamedTuple):
    """Each task as so many tasks, in order: [tasks · folds].

    Attributes:
        tasks: support is what a fold trains on; query, and for want of another also test, is what it leaves out.
        each: folds of a task.
    """

    tasks: TaskBatch
    each: int


def folds_of(tasks: TaskBatch, spec: TaskSpec, count: int, seed: int) -> Folds:
    """Splits each support set `count` times into a larger part to train on and a smaller one to score on.

    Classes are spread evenly over the folds. All folds have the same sizes: where the number of examples is not
    divisible, each fold leaves out one that it might have had.

    Args:
        tasks: [tasks]; their query and test sets are not looked at.
        spec: what the targets are.
        count: folds of a task, 2 or more.
        seed: of the order.

    Raises:
        ConfigError: there are fewer examples than folds.
    """
    n = tasks.support.x.shape[1]
    check_folds(count, n)
    train, held = [], []
    for i in range(count_tasks(tasks)):
        labels = _labels(tasks.support.y[i], spec)
        fold = _dealt(labels, count, seed)
        train += [_shortened((fold != k).nonzero()[:, 0], labels, n - -(-n // count)) for k in range(count)]
        held += [_shortened((fold == k).nonzero()[:, 0], labels, n // count) for k in range(count)]
    return Folds(_taken(tasks, torch.stack(train), torch.stack(held), count), count)


def check_folds(count: int, n_support: int) -> None:
    """Raises ConfigError where there are fewer examples than folds."""
    if n_support < count:
        raise ConfigError(
            f"search.folds is {count}, but a support set has {n_support} examples; use {n_support} folds or fewer"
        )


def _labels(y: Tensor, spec: TaskSpec) -> Tensor:
    """Classes of one task's examples, [examples]; all the same in regression."""
    if spec.kind is Kind.regression:
        return torch.zeros(len(y), dtype=torch.int64)
    return y.argmax(-1) if y.dim() > 1 else y


def _dealt(labels: Tensor, count: int, seed: int) -> Tensor:
    """The fold that each example is left out of, [examples]: in random order, class by class, dealt one by one."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[by_class] = torch.arange(len(labels)) % count
    return fold


def _shortened(rows: Tensor, labels: Tensor, size: int) -> Tensor:
    """The rows without some of the class that has most of them, so that `size` are left."""
    while len(rows) > size:
        of_class = labels[rows].bincount()
        last = (labels[rows] == of_class.argmax()).nonzero()[-1, 0]
        rows = torch.cat([rows[:last], rows[last + 1 :]])
    return rows


def _taken(tasks: TaskBatch, train: Tensor, held: Tensor, count: int) -> TaskBatch:
    of = torch.arange(count_tasks(tasks)).repeat_interleave(count)[:, None]

    def rows(index: Tensor) -> Batch:
        return Batch(tasks.support.x[of, index], tasks.support.y[of, index])

    left_out = rows(held)
    return TaskBatch(rows(train), left_out, left_out)
