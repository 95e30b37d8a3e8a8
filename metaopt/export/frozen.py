"""A policy's numbers as constants: what an optimizer steps with, when nothing is learned any more."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.policies.policy import Policy, Values
from metaopt.policies.rule import Strength, Strengths


class Frozen(NamedTuple):
    """What the steps of a policy are made with.

    Attributes:
        strengths: floats where there is one number for a tensor, else of the tensor's shape, type and device; without
            schedule and anchor.
        schedule: factors of each tensor's learning rate, [horizon] floats; empty: none.
        values: what else was learned, where the model is.
    """

    strengths: Strengths
    schedule: dict[str, list[float]]
    values: Values


@torch.no_grad()
def frozen(policy: Policy, params: Mapping[str, Tensor]) -> Frozen:
    """A policy's numbers for these parameter tensors, in their types and on their devices."""
    exact = deepcopy(policy).to(torch.device("cpu"), torch.float64)  # so that no digit is lost before the last
    values = exact.values()

    def of(quantity: str) -> Strength | None:
        found = exact.strength(quantity, values)
        return None if found is None else {name: _constant(found[name], p) for name, p in params.items()}

    lr, momentum = of("lr"), exact.momentum(values)
    assert lr is not None, "settings are checked to have a learning rate"
    factors = exact.schedule(values) or {}
    schedule: dict[str, list[float]] = {name: factors[name].tolist() for name in params if name in factors}
    first = next(iter(params.values()))
    rest: Values = {"own": {key: value.to(first) for key, value in values.get("own", {}).items()}}
    if "curvature" in values:
        rest["curvature"] = {key: value.to(first) for key, value in values["curvature"].items()}
    mu = None if momentum is None else float(momentum)
    return Frozen(Strengths(lr, of("l2"), of("pull"), momentum=mu), schedule, rest)


def _constant(value: Tensor | float, p: Tensor) -> Tensor | float:
    if isinstance(value, Tensor) and value.dim() > 0:
        return value.to(p)
    return float(value)
