"""A policy's numbers as constants: what an optimizer steps with, when nothing is learned any more."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from metaopt.policies.policy import Policy, Values
from metaopt.policies.rule import Strength, Strengths


class Frozen(NamedTuple):
    """What the steps of a policy are made with.

    Attributes:
        strengths: floats where there is one number for a tensor, else of the tensor's shape and device; without
            schedule and anchor.
        schedule: factors of each tensor's learning rate, [horizon] floats; empty: none.
        values: what else was learned, where the model is.
    """

    strengths: Strengths
    schedule: dict[str, list[float]]
    values: Values


def working_dtype(params: Mapping[str, Tensor]) -> torch.dtype:
    """The type in which steps are computed: float32 for models in half precision, whose types round 0.999 to 1."""
    found = torch.float32
    for p in params.values():
        found = torch.promote_types(found, p.dtype)
    return found


@torch.no_grad()
def frozen(policy: Policy, params: Mapping[str, Tensor]) -> Frozen:
    """A policy's numbers for these parameter tensors, in the type that steps are computed in, on their devices."""
    dtype = working_dtype(params)
    exact = deepcopy(policy).to(torch.device("cpu"), torch.float64)  # so that no digit is lost before the last
    values = exact.values()

    def of(quantity: str) -> Strength | None:
        found = exact.strength(quantity, values)
        return None if found is None else {name: _constant(found[name], p, dtype) for name, p in params.items()}

    lr, momentum = of("lr"), exact.momentum(values)
    assert lr is not None, "settings are checked to have a learning rate"
    factors = exact.schedule(values) or {}
    schedule: dict[str, list[float]] = {name: factors[name].tolist() for name in params if name in factors}
    device = next(iter(params.values())).device
    rest: Values = {"own": {key: value.to(device, dtype) for key, value in values.get("own", {}).items()}}
    if "curvature" in values:
        rest["curvature"] = {key: value.to(device, dtype) for key, value in values["curvature"].items()}
    mu = None if momentum is None else float(momentum)
    return Frozen(Strengths(lr, of("l2"), of("pull"), momentum=mu), schedule, rest)


def _constant(value: Tensor | float, p: Tensor, dtype: torch.dtype) -> Tensor | float:
    if not (isinstance(value, Tensor) and value.dim() > 0):
        return float(value)
    value = value.to(p.device, dtype)
    if isinstance(p, DTensor):  # each process has its part of the parameters, and needs that of what they step with
        return distribute_tensor(value, p.device_mesh, p.placements)
    return value
