"""Cross-validation on support sets, for tasks that are too small to spare a validation set."""

from __future__ import annotations

import warnings
from collections import Counter
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
    if n < count:
        raise ConfigError(f"search.folds is {count}, but a support set has {n} examples; use {n} folds or fewer")
    train, held = [], []
    for i in range(count_tasks(tasks)):
        for inside, outside in _splits(_labels(tasks.support.y[i], spec), n, count, seed):
            train.append(inside[: n - -(-n // count)])
            held.append(outside[: n // count])
    return Folds(_taken(tasks, torch.stack(train), torch.stack(held), count), count)


def _labels(y: Tensor, spec: TaskSpec) -> list[int] | None:
    """Classes of one task's examples; None in regression."""
    if spec.kind is Kind.regression:
        return None
    return (y.argmax(-1) if y.dim() > 1 else y).tolist()


def _splits(labels: list[int] | None, n: int, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    from sklearn.model_selection import KFold, StratifiedKFold  # noqa: PLC0415

    # Where no class has an example for each fold, there is nothing to spread.
    even = labels is not None and max(Counter(labels).values()) >= count
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # it goes into some folds only
        kind = StratifiedKFold if even else KFold
        split = kind(count, shuffle=True, random_state=seed).split(range(n), labels)
        return [(torch.as_tensor(inside), torch.as_tensor(outside)) for inside, outside in split]


def _taken(tasks: TaskBatch, train: Tensor, held: Tensor, count: int) -> TaskBatch:
    of = torch.arange(count_tasks(tasks)).repeat_interleave(count)[:, None]

    def rows(index: Tensor) -> Batch:
        return Batch(tasks.support.x[of, index], tasks.support.y[of, index])

    left_out = rows(held)
    return TaskBatch(rows(train), left_out, left_out)
