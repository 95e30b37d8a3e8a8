"""The tables of a policy's learned strengths, as they are before learning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from metaopt.models.initial import Moments
from metaopt.models.roles import CHOICE
from metaopt.policies.loss_strengths import dropout_table
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.policies.tables import table


def strength_tables(
    settings: PolicySettings,
    shapes: Mapping[str, torch.Size],
    init: Mapping[str, Moments],
    roles: Mapping[str, str],
    known_roles: Sequence[str],
) -> dict[str, nn.ParameterDict]:
    """Logarithms of all strengths that are learned, by quantity.

    Args:
        settings: which are learned, at what granularity, and from where.
        shapes: the parameter tensors that inner steps train.
        init: how torch would draw them.
        roles: role of each of them.
        known_roles: roles that there are values for, besides these.
    """
    every = tuple(role for role in dict.fromkeys([*roles.values(), *known_roles]) if role != CHOICE)
    tables = {}
    for name in ("lr", "l2", "pull"):
        strength: StrengthSettings = getattr(settings, name)
        if strength.mode == "learned":
            tables[name] = table(shapes, strength.granularity, math.log(strength.value), every)
    if settings.init.mode == "scaled":
        random = {name: shape for name, shape in shapes.items() if init[name].std > 0}
        used = dict.fromkeys(roles[name] for name in random if name in roles)
        tables["init_std"] = table(random, settings.init.granularity, 0.0, (*used, *known_roles))
    if settings.dropout.mode != "off":
        tables.update(dropout_table(settings.dropout, shapes, roles, every))
    if settings.input_noise.mode == "learned":
        tables["input_noise"] = table(shapes, "global", math.log(settings.input_noise.value), ())
    return tables
