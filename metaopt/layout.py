"""A nested dictionary of tensors as one flat vector, and back: one argument instead of many, with strides that stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Tree: TypeAlias = Any
"""A tensor, or a dictionary of trees."""


class Layout:
    """Where each tensor of a tree lies in a flat vector.

    Args:
        shapes: a nested dictionary of shapes, without batch dimensions; its order is that of the vector.

    Attributes:
        size: length of the vector.
    """

    def __init__(self, shapes: Tree) -> None:
        self._shapes: Tree = shapes
        self._sizes = [shape.numel() for shape in leaves(shapes)]
        self.size = sum(self._sizes)

    @classmethod
    def of(cls, tree: Tree) -> Layout:
        """The layout of a tree of tensors."""
        return cls(mapped(tree, lambda tensor: tensor.shape))

    def pack(self, tree: Tree, batch_dims: int = 0) -> Tensor:
        """The tree as a vector, [*batch, size].

        Args:
            tree: of the layout's structure and shapes; the order of its keys does not matter.
            batch_dims: leading dimensions that the tensors have besides.
        """
        flat = [
            tensor.flatten(batch_dims) if tensor.dim() > batch_dims else tensor.unsqueeze(-1)
            for tensor in self._in_order(tree, self._shapes)
        ]
        return torch.cat(flat, -1)

    def unpack(self, flat: Tensor) -> Tree:
        """The tree whose tensors are views into the last dimension of `flat`, [*batch, size]."""
        parts = iter(flat.split(self._sizes, -1))
        batch = flat.shape[:-1]
        return mapped(self._shapes, lambda shape: next(parts).view((*batch, *shape)))

    def _in_order(self, tree: Tree, shapes: Tree) -> list[Tensor]:
        if not isinstance(shapes, Mapping):
            return [tree]
        return [leaf for key, below in shapes.items() for leaf in self._in_order(tree[key], below)]


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a nested dictionary, in order."""
    if not isinstance(tree, Mapping):
        return [tree]
    return [leaf for below in tree.values() for leaf in leaves(below)]


def mapped(tree: Tree, function: Any) -> Tree:
    """The tree of the same structure with `function` of each leaf."""
    if not isinstance(tree, Mapping):
        return function(tree)
    return {key: mapped(below, function) for key, below in tree.items()}
