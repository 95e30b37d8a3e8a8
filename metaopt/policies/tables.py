"""Tables of what a policy learns: for all tensors, for each role, for each tensor or for each parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError

GLOBAL = "all"
"""The key of what serves all parameter tensors."""


def encode(name: str) -> str:
    """A parameter tensor's name as a key that torch modules accept, which must not contain dots."""
    return name.replace(".", "/")


def table(
    shapes: Mapping[str, torch.Size],
    granularity: str,
    value: float,
    roles: Sequence[str],
    extra: tuple[int, ...] = (),
) -> nn.ParameterDict:
    """Unconstrained parameters at a granularity, all starting at `value`."""
    if granularity == "global":
        return nn.ParameterDict({GLOBAL: nn.Parameter(torch.full(extra, value))})
    if granularity == "role":
        if not roles:
            raise ConfigError("granularity is 'role', but the model does not say the roles of its tensors; use tensor")
        sizes = dict.fromkeys(roles, extra)
    else:
        sizes = {name: extra if granularity == "tensor" else shape for name, shape in shapes.items()}
    return nn.ParameterDict({encode(name): nn.Parameter(torch.full(size, value)) for name, size in sizes.items()})


def interpolated(values: Tensor, steps: int) -> Tensor:
    """Values at evenly spaced knots, [knots], as linearly interpolated ones at every step, [steps]."""
    knots = torch.arange(len(values), dtype=torch.float64, device=values.device)
    at = torch.linspace(0, len(values) - 1, steps, dtype=torch.float64, device=values.device)
    return (1 - (at[:, None] - knots).abs()).clamp(min=0).to(values.dtype) @ values


def logit(value: float) -> nn.Parameter:
    """What is learned of a number in (0, 1), behind a sigmoid."""
    return nn.Parameter(torch.tensor(math.log(value / (1 - value))))


def exponentials(logs: nn.Module) -> dict[str, Tensor]:
    """The values of a table of logarithms."""
    assert isinstance(logs, nn.ParameterDict)
    return {key: value.exp() for key, value in logs.items()}


def spread(
    values: Mapping[str, Tensor], granularity: str, names: Sequence[str], roles: Mapping[str, str]
) -> dict[str, Tensor]:
    """The entry of each parameter tensor that the table covers: its own, its role's, or the one for all.

    Args:
        values: of the table, by its keys.
        granularity: of the table. Keys alone do not tell: a layer may be called `hidden` and a tensor `all`.
        names: of the parameter tensors.
        roles: of these.
    """
    if granularity == "global":
        return dict.fromkeys(names, values[GLOBAL])
    keys = {name: encode(roles.get(name, "") if granularity == "role" else name) for name in names}
    return {name: values[key] for name, key in keys.items() if key in values}
