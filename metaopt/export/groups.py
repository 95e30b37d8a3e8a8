"""Parameter groups as people give them to torch's optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from metaopt.errors import ConfigError


class Members(NamedTuple):
    """What a parameter group holds: tensors, and the names by which the policy knows them."""

    tensors: list[Tensor]
    names: list[str]


def members_of(group: Mapping[str, Any], known: Mapping[str, Tensor]) -> Members:
    """The parameters of a group.

    Args:
        group: `params` is a tensor, or many, each perhaps with a name that is not looked at.
        known: the model's parameters by the policy's names.

    Raises:
        ConfigError: one of them is none of the model's.
    """
    given = group["params"]
    entries = [given] if isinstance(given, Tensor) else list(given)
    tensors: list[Tensor] = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    names = {id(p): name for name, p in known.items()}
    foreign = [tuple(p.shape) for p in tensors if id(p) not in names]
    if foreign:
        raise ConfigError(
            f"a parameter group holds a tensor of shape {foreign[0]}, which is no trainable parameter of the model "
            "that the policy was given; give policy.optimizer(...) the model that it belongs to, when all that is ever "
            "to be trained needs a gradient"
        )
    return Members(tensors, [names[id(p)] for p in tensors])
