"""One of torch's optimizers, with the learning rates that a policy has learned for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from metaopt.export.frozen import frozen
from metaopt.export.groups import Groups, check_settings, groups_of, members_of
from metaopt.policies.policy import Policy


def torchs_own(
    policy: Policy, parameters: Mapping[str, nn.Parameter], groups: Groups | None = None
) -> torch.optim.Optimizer:
    """The torch optimizer of a policy such as `policy=torch_optimizer`, a group for each parameter tensor.

    Args:
        policy: fitted to the model.
        parameters: by the names that the policy knows.
        groups: see `PolicyOptimizer`; `lr` multiplies the learned rates of a group.

    Raises:
        ConfigError: a group holds something that is no parameter of the model, or has a setting that would do nothing.
    """
    rates = frozen(policy, parameters).strengths.lr
    own: list[dict[str, Any]] = []
    whole: list[Mapping[str, Any]] = [{"params": list(parameters.values())}]
    for group in whole if groups is None else groups_of(groups):
        check_settings(group, policy.settings.name)
        for p, name in zip(*members_of(group, parameters), strict=True):
            own.append({"params": [p], "lr": group.get("lr", 1.0) * float(rates[name])})
    return getattr(torch.optim, policy.settings.optimizer)(own)
