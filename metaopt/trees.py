"""Small pure functions over dictionaries of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metaopt.types import Batch, Params, TaskBatch


def detached(tree: Mapping[str, Tensor]) -> Params:
    """The same values, cut from the graph."""
    return {name: tensor.detach() for name, tensor in tree.items()}


def cloned(tree: Mapping[str, Tensor]) -> Params:
    """A copy that later in-place changes cannot reach, cut from the graph."""
    return {name: tensor.detach().clone() for name, tensor in tree.items()}


def on_cpu(tree: Any) -> Any:
    """Nested dictionaries and lists with every tensor on the CPU; what else there is stays as it is."""
    if isinstance(tree, Tensor):
        return tree.cpu()
    if isinstance(tree, dict):
        return {key: on_cpu(below) for key, below in tree.items()}
    return [on_cpu(below) for below in tree] if isinstance(tree, list) else tree


def cast(tree: Mapping[str, Tensor], dtype: torch.dtype) -> Params:
    """Floating-point tensors in `dtype`; the others as they are."""
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tree.items()}


def cast_tasks(tasks: TaskBatch, dtype: torch.dtype, device: torch.device | None = None) -> TaskBatch:
    """The tasks with floating-point inputs and targets in `dtype`, and all on `device` (None: where they are).

    Whole numbers and truth values stay such: they may be ids.
    """

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

    return TaskBatch(*(Batch(convert(batch.x), convert(batch.y)) for batch in tasks))


def take_tasks(tasks: TaskBatch, index: int | slice | Tensor) -> TaskBatch:
    """The tasks at `index` of the leading dimension; an int takes one task and drops the dimension."""
    return TaskBatch(*(Batch(batch.x[index], batch.y[index]) for batch in tasks))


def row(tensor: Tensor, index: int | Tensor) -> Tensor:
    """tensor[index] for an int or a scalar int64 tensor, whose value a traced function must not look at."""
    if isinstance(index, int):
        return tensor[index]
    return tensor.index_select(0, index.reshape(1)).squeeze(0)


def count_tasks(tasks: TaskBatch) -> int:
    """Number of tasks in the batch."""
    return tasks.support.x.shape[0]


def chunks(n: int, size: int) -> list[slice]:
    """Slices that divide `n` tasks into groups of `size`; the last may be smaller."""
    return [slice(begin, begin + size) for begin in range(0, n, size)]


def stacked(trees: Sequence[Mapping[str, Tensor]]) -> Params:
    """One tree with a new leading dimension, [trees, *shape]."""
    return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}
