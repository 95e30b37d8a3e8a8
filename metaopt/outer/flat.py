"""A policy's parameters as views of two flat vectors, so that the outer optimizer moves all of them in a few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from metaopt.layout import Layout
from metaopt.policies.policy import Policy


class FlatGroup(NamedTuple):
    """Consecutive parameters of a policy.

    Attributes:
        vector: the leaf that the optimizer moves; the policy's parameters look into it.
        part: where it lies among all of the policy's numbers, in the order of `named_parameters`.
    """

    vector: nn.Parameter
    part: slice


def flatten(policy: Policy, belongs: Callable[[str], bool]) -> tuple[FlatGroup, FlatGroup]:
    """Moves a policy's parameters into two vectors, and makes the parameters views of them.

    Args:
        policy: changed in place; values, names and shapes stay. Parameters that belong to the second vector follow all
            others in `named_parameters`.
        belongs: whether a parameter's name belongs to the second vector.

    Returns:
        Both groups, of which one may be empty.
    """
    named = dict(policy.named_parameters())
    layout = Layout({name: p.shape for name, p in named.items()})
    flat = layout.pack({name: p.detach() for name, p in named.items()})
    first = sum(p.numel() for name, p in named.items() if not belongs(name))
    order = [belongs(name) for name in named]
    assert order == sorted(order), "the second group's parameters must follow the others"
    parts = (slice(0, first), slice(first, layout.size))
    groups = tuple(FlatGroup(nn.Parameter(flat[part]), part) for part in parts)
    views: dict[str, Tensor] = layout.unpack(flat)
    for name, p in named.items():
        p.data = views[name]
    policy.vector = flat
    return groups[0], groups[1]
