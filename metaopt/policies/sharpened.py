"""A policy with its mixtures sharpened into choices: an ordinary policy, which is what the file holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from metaopt.models.mixed_activation import activation_shares
from metaopt.policies.kinds import KINDS
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Choice, Settled


class Sharpened(NamedTuple):
    """A policy of one choice of each kind.

    Attributes:
        policy: without a mixture, and for a model without one.
        choices: what was chosen.
        has_rate: whether it has learning rates that can be multiplied.
    """

    policy: Policy
    choices: Sequence[Choice]
    has_rate: bool


def choices_of(policy: Policy) -> list[Choice]:
    """What is chosen when a policy is saved, of each thing that it or its model mixes."""
    settled = _settled(policy)
    chosen = [] if settled is None else [settled.choice]
    for logits in policy.choice.values():
        shares = activation_shares(logits)
        chosen.append(Choice("activation", max(shares, key=shares.__getitem__), shares))
    return chosen


def sharpened(policy: Policy, factor: float = 1.0) -> Sharpened | None:
    """The policy of the choices with the largest weights; None where it mixes nothing.

    Args:
        policy: left as it is.
        factor: what all learning rates are multiplied with besides, > 0; where they are fixed, nothing is.
    """
    with torch.no_grad():
        choices, settled = choices_of(policy), _settled(policy)
        if not choices:
            return None
        own = dict(policy.named_parameters())
        example = next(iter(own.values()))
        alone = Policy(
            policy.settings if settled is None else settled.settings,
            policy.trained,
            policy.moments,
            policy.horizon,
            roles=policy.roles,
            known_roles=policy.known_roles,
        ).to(example.device, example.dtype)
        alone.span, alone.mixed = policy.span, {choice.what: dict(choice.weights) for choice in choices}
        for name, parameter in alone.named_parameters():
            if name in own:
                parameter.copy_(own[name])
            else:
                parameter.fill_(math.log(policy.settings.lr.value))  # a fixed rate, from which the choice's was learned
        has_rate = "lr" in alone.log_strengths
        if has_rate:
            scale = math.log(factor) + (0.0 if settled is None else torch.log(settled.factor))
            for logarithm in alone.log_strengths["lr"].parameters():
                logarithm.add_(scale)
    return Sharpened(alone, choices, has_rate)


def _settled(policy: Policy) -> Settled | None:
    """What its rule is sharpened into; None where that mixes nothing."""
    of_kind = KINDS[policy.settings.rule].settled
    return None if of_kind is None else of_kind(policy.settings, dict(policy.own.items()), policy.momentum())
