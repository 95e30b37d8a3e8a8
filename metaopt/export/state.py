"""A rule's memory as torch's optimizers keep theirs: by parameter, and what belongs to none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metaopt.policies.rule import State
from metaopt.types import Params

SHARED = "shared/"
"""Before the names of what belongs to no single parameter, in the state of the first one."""
TOP = "memory"
"""What a rule keeps of each parameter tensor without a name of its own."""


def by_parameter(state: State, names: Sequence[str]) -> tuple[dict[str, Params], Params]:
    """Splits a rule's memory.

    Args:
        state: nested dictionaries of tensors. A dictionary whose keys are the names holds something of each of them.
        names: of the parameter tensors.

    Returns:
        By parameter tensor, its memory by kind; and the rest by kind. A kind inside another is `outer/inner`.
    """
    own: dict[str, Params] = {name: {} for name in names}
    rest: Params = {}

    def walk(part: Mapping[str, Any], path: str) -> None:
        if part and list(part) == list(names):
            for name, tensor in part.items():
                own[name][path or TOP] = tensor
            return
        for key, below in part.items():
            at = f"{path}/{key}" if path else key
            if isinstance(below, Tensor):
                rest[at] = below
            else:
                walk(below, at)

    walk(state, "")
    return own, rest


def as_nested(template: State, own: Mapping[str, Mapping[str, Tensor]], rest: Mapping[str, Tensor]) -> State:
    """The inverse of `by_parameter`; what is missing is as in the template, and what has grown is filled up from it.

    Args:
        template: memory before the first step, for the names in `own`.
        own: by parameter tensor.
        rest: what belongs to none. A vector with an entry for each tensor may have fewer: tensors that join later come
            last.
    """
    names = list(own)

    def walk(part: Mapping[str, Any], path: str) -> dict[str, Any]:
        if part and list(part) == names:
            return {name: own[name].get(path or TOP, fresh) for name, fresh in part.items()}
        found: dict[str, Any] = {}
        for key, below in part.items():
            at = f"{path}/{key}" if path else key
            found[key] = _grown(rest.get(at), below) if isinstance(below, Tensor) else walk(below, at)
        return found

    return walk(template, "")


def on_meta(state: State) -> State:
    """The same memory without its values: names, shapes and types."""
    if isinstance(state, Tensor):
        return state.to("meta")
    return {key: on_meta(below) for key, below in state.items()}


def _grown(old: Tensor | None, fresh: Tensor) -> Tensor:
    if old is None or fresh.is_meta:
        return fresh if old is None else old
    old = old.to(fresh)
    return old if old.shape == fresh.shape else torch.cat([old, fresh[len(old) :]])
