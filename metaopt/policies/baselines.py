"""Hyperparameters as people type them: one number each."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from metaopt.policies.rule import Initialise, Learner, Start, UpdateRule
from metaopt.policies.step import adam_step, regularised_step
from metaopt.types import Params

Optimizer: TypeAlias = Literal["sgd", "nesterov", "adam", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "nesterov", "adam", "adamw")
TITLES: dict[Optimizer, str] = {"sgd": "SGD", "nesterov": "Nesterov's SGD", "adam": "Adam", "adamw": "AdamW"}
Decay: TypeAlias = Literal["constant", "linear", "cosine"]
DECAYS: tuple[Decay, ...] = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class RuleSettings:
    """A conventional optimizer.

    Attributes:
        optimizer: gradient descent (plain, with momentum, or with Nesterov's), Adam, or Adam with decoupled weight
            decay.
        lr: learning rate.
        l2: L2 coefficient, added to the gradient as l2·θ (torch's `weight_decay` of SGD and Adam); AdamW's weight
            decay.
        momentum: of gradient descent only; 0 leaves it out.
        schedule: how the learning rate goes over the horizon; see `decay_factors`.
    """

    optimizer: Optimizer
    lr: float
    l2: float = 0.0
    momentum: float = 0.0
    schedule: Decay = "constant"

    @property
    def adaptive(self) -> bool:
        """Whether it is one of Adam's kind, which has no momentum to choose."""
        return self.optimizer in ("adam", "adamw")

    def rule(self, names: tuple[str, ...], horizon: int = 1) -> UpdateRule:
        """The update rule for the parameter tensors `names`; only a schedule depends on the horizon."""
        factors = None if self.schedule == "constant" else decay_factors(self.schedule, horizon)
        if self.adaptive:
            return adam_step(self.lr, self.l2, decoupled=self.optimizer == "adamw", schedule=factors)
        return regularised_step(
            lr=dict.fromkeys(names, self.lr),
            l2=dict.fromkeys(names, self.l2) if self.l2 > 0 else None,
            momentum=self.momentum if self.momentum > 0 else None,
            schedule=None if factors is None else dict.fromkeys(names, factors),
            nesterov=self.optimizer == "nesterov",
        )

    def numbers(self, horizon: int) -> Params:
        """The same as float64 tensors, of which many can lie side by side for `rule_of_numbers`."""
        return {
            "lr": torch.tensor(self.lr, dtype=torch.float64),
            "l2": torch.tensor(self.l2, dtype=torch.float64),
            "momentum": torch.tensor(self.momentum, dtype=torch.float64),
            "variant": torch.tensor(self.optimizer in ("nesterov", "adamw")),
            "factors": decay_factors(self.schedule, horizon),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records."""
        return asdict(self)

    def describe(self) -> str:
        """In words, for tables."""
        words = [f"{TITLES[self.optimizer]}, lr {self.lr:.3g}"]
        if self.l2 > 0:
            words.append(f"L2 {self.l2:.2g}")
        if not self.adaptive and self.momentum > 0:
            words.append(f"momentum {self.momentum:.2g}")
        if self.schedule != "constant":
            words.append(f"{self.schedule} decay")
        return ", ".join(words)


def rule_of_numbers(adaptive: bool, numbers: Params, names: tuple[str, ...]) -> UpdateRule:
    """The rule of `RuleSettings.numbers`, which may have been put side by side by `vmap`.

    Args:
        adaptive: whether the numbers are those of Adam and AdamW, or of the others.
        numbers: see there, each without the dimension of what is side by side.
        names: the parameter tensors.
    """
    lr, l2, factors = numbers["lr"], numbers["l2"], numbers["factors"]
    if adaptive:
        return adam_step(lr, l2, decoupled=numbers["variant"], schedule=factors)
    return regularised_step(
        lr=dict.fromkeys(names, lr),
        l2=dict.fromkeys(names, l2),
        momentum=numbers["momentum"],
        schedule=dict.fromkeys(names, factors),
        nesterov=numbers["variant"],
    )


def decay_factors(schedule: Decay, horizon: int) -> Tensor:
    """What the learning rate is multiplied with at each step, [horizon]: 1 at the first, and falling towards 0.

    Args:
        schedule: `constant`: 1 throughout; `linear`: along a line; `cosine`: along half a cosine (Loshchilov & Hutter,
            "SGDR", 2017).
        horizon: number of steps.
    """
    share = torch.arange(horizon, dtype=torch.float64) / horizon
    if schedule == "linear":
        return 1 - share
    return (1 + torch.cos(math.pi * share)) / 2 if schedule == "cosine" else torch.ones_like(share)


def fixed_learner(start: Initialise, settings: RuleSettings, horizon: int = 1) -> Learner:
    """A learner that starts where `start` (noise -> θ₀) says and trains with a conventional optimizer."""

    def learner(noise: Params) -> Start:
        return Start(start(noise), settings.rule(tuple(noise), horizon))

    return learner
