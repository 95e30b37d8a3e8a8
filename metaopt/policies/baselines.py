"""Hyperparameters as people type them: one number each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from metaopt.policies.rule import Initialise, Learner, Start, UpdateRule
from metaopt.policies.step import adam_step, regularised_step
from metaopt.types import Params


@dataclass(frozen=True)
class RuleSettings:
    """A conventional optimizer.

    Attributes:
        optimizer: plain or momentum gradient descent, or Adam.
        lr: learning rate.
        l2: L2 coefficient, added to the gradient as l2·θ (torch's `weight_decay` of SGD and Adam).
        momentum: of SGD only; 0 leaves it out.
    """

    optimizer: Literal["sgd", "adam"]
    lr: float
    l2: float = 0.0
    momentum: float = 0.0

    def rule(self, names: tuple[str, ...]) -> UpdateRule:
        """The update rule for the parameter tensors `names`."""
        if self.optimizer == "adam":
            return adam_step(self.lr, self.l2)
        return regularised_step(
            lr=dict.fromkeys(names, self.lr),
            l2=dict.fromkeys(names, self.l2) if self.l2 > 0 else None,
            momentum=self.momentum if self.momentum > 0 else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records."""
        return asdict(self)

    def describe(self) -> str:
        """In words, for tables."""
        words = [f"{'SGD' if self.optimizer == 'sgd' else 'Adam'}, lr {self.lr:.3g}"]
        if self.l2 > 0:
            words.append(f"L2 {self.l2:.2g}")
        if self.optimizer == "sgd" and self.momentum > 0:
            words.append(f"momentum {self.momentum:.2g}")
        return ", ".join(words)


def fixed_learner(start: Initialise, settings: RuleSettings) -> Learner:
    """A learner that starts where `start` (noise -> θ₀) says and trains with a conventional optimizer."""

    def learner(noise: Params) -> Start:
        return Start(start(noise), settings.rule(tuple(noise)))

    return learner
