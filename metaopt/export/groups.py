"""Parameter groups as people give them to torch's optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from metaopt.errors import ConfigError

Groups: TypeAlias = "Iterable[Mapping[str, Any]] | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Tensor"
"""Dictionaries with `params`, or what `params` may be itself: tensors, or pairs of a name and a tensor."""
OWN = frozenset({"params", "lr"})
"""Settings that mean in a policy's optimizer what they mean in torch's."""
HOW = frozenset({"foreach", "fused", "capturable"})
"""Settings that change no step: how torch's own kernels go about it."""


class Members(NamedTuple):
    """What a parameter group holds: tensors, and the names by which the policy knows them."""

    tensors: list[Tensor]
    names: list[str]


def groups_of(given: Groups) -> list[dict[str, Any]]:
    """Parameter groups, in whichever of torch's forms they came.

    Raises:
        ConfigError: it is none of these.
    """
    found = [given] if isinstance(given, Tensor) else list(given)
    if all(isinstance(each, Mapping) and "params" in each for each in found) and found:
        return [dict(each) for each in found]  # type: ignore[arg-type]
    for each in found:
        if not isinstance(each[1] if isinstance(each, tuple) and len(each) == 2 else each, Tensor):
            raise ConfigError(
                f"groups holds a {type(each).__name__}; give dictionaries with params, tensors, or pairs of name and "
                "tensor, as torch's optimizers take them"
            )
    return [{"params": found}]


def members_of(group: Mapping[str, Any], known: Mapping[str, Tensor]) -> Members:
    """The parameters of a group.

    Args:
        group: `params` is a tensor, or many, each perhaps with a name that is not looked at.
        known: the model's parameters by the policy's names.

    Raises:
        ConfigError: one of them is none of the model's.
    """
    tensors = tensors_of(group)
    names = {id(p): name for name, p in known.items()}
    foreign = [tuple(p.shape) for p in tensors if id(p) not in names]
    if foreign:
        raise ConfigError(
            f"a parameter group holds a tensor of shape {foreign[0]}, which is no parameter of the model that the "
            "policy was given; give policy.optimizer(...) the model that it belongs to"
        )
    return Members(tensors, [names[id(p)] for p in tensors])


def tensors_of(group: Mapping[str, Any]) -> list[Tensor]:
    """The tensors of a group, without their names."""
    given = group["params"]
    entries = [given] if isinstance(given, Tensor) else list(given)
    return [entry[1] if isinstance(entry, tuple) else entry for entry in entries]


def check_settings(group: Mapping[str, Any], policy: str) -> None:
    """Raises ConfigError where a group has a setting of torch's optimizers that a policy's has not.

    A `weight_decay` of 0 is one that it has: no L2 for the group. Entries of people's own are theirs.
    """
    for name in group.keys() & _settings_of_torch():
        value = group[name]
        off = value is None or value is False or (name == "weight_decay" and value == 0)
        if name not in OWN | HOW and not off:
            raise ConfigError(
                f"a parameter group says {name}={value!r}, but policy '{policy}' steps by what it has learned, and "
                f"would not look at it; leave {name} out"
                + (" (weight_decay=0 switches the learned L2 off)" if name == "weight_decay" else "")
            )


@cache
def _settings_of_torch() -> frozenset[str]:
    """Every setting that one of torch's optimizers has for a group."""
    kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer]
    return frozenset(name for kind in kinds for name in inspect.signature(kind).parameters)
