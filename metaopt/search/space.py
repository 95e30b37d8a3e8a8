"""What a search chooses from: what people tune by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from metaopt.models.mixed_activation import ACTIVATIONS
from metaopt.models.variant import CHANGES
from metaopt.policies.baselines import DECAYS, OPTIMIZERS, RuleSettings
from metaopt.types import Params

Kind: TypeAlias = Literal["sgd", "adam", "policy"]
"""What the numbers of a candidate mean: those of gradient descent, of Adam, or multipliers on a policy."""

DIMENSIONS = ("optimizer", "lr", "l2", "momentum", "schedule", "batch_size", *CHANGES)
LR_RANGE = (1e-4, 3.0)
ADAM_SHARE = 1 / 30
"""Adam's learning rate as a share of the searched one, so that good values of all optimizers lie near each other."""
L2_RANGE = (1e-6, 1.0)
L2_OFF_BELOW = 1e-5
"""Weaker regularisation does nothing within a few hundred steps, and stands for none."""
BATCH_SIZES = (8, 16, 32, 64)
WIDTHS = (16, 32, 64, 128)
DEPTHS = (1, 2, 3)
DEFAULTS: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "l2": L2_RANGE[0], "momentum": 0.9, "schedule": "constant"}
"""What holds for a dimension that is not searched; batch size and network are then the policy's own."""


class Candidate(NamedTuple):
    """A point of a space as training takes it.

    Attributes:
        kind: what the numbers mean.
        numbers: tensors without batch dimensions, of the same names and shapes for each candidate of a kind.
        batch_size: support examples in a minibatch; None: as the policy was meta-trained with.
        changes: of the model, see `variant`.
    """

    kind: Kind
    numbers: Params
    batch_size: int | None
    changes: tuple[tuple[str, Any], ...]

    @property
    def group(self) -> tuple[Any, ...]:
        """What candidates have in common that can be trained side by side."""
        return self.kind, self.batch_size, self.changes


class Space(Protocol):
    """A set of candidates, as Optuna's parameters and as training takes them.

    Attributes:
        distributions: by name of the parameter; each trial has all of them, for samplers that cannot do with less.
        first: points that are tried before all others.
    """

    @property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """See the class."""
        ...

    @property
    def first(self) -> Sequence[Mapping[str, Any]]:
        """See the class."""
        ...

    def candidate(self, point: Mapping[str, Any], horizon: int) -> Candidate:
        """A point as training takes it."""
        ...

    def record(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point for people: without parameters that do nothing in it."""
        ...


@dataclass(frozen=True)
class ConventionalSpace:
    """Conventional optimizers, and what else is tuned beside them.

    Attributes:
        dimensions: which of `DIMENSIONS` are searched.
        n_support: examples in a support set, which bound the batch size.
    """

    dimensions: tuple[str, ...]
    n_support: int

    @property
    def first(self) -> Sequence[Mapping[str, Any]]:
        """Nothing: a search without a policy knows nothing."""
        return ()

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """See `Space`."""
        known: dict[str, BaseDistribution] = {
            "optimizer": CategoricalDistribution(OPTIMIZERS),
            "lr": FloatDistribution(*LR_RANGE, log=True),
            "l2": FloatDistribution(*L2_RANGE, log=True),
            "momentum": FloatDistribution(0.0, 0.99),
            "schedule": CategoricalDistribution(DECAYS),
        }
        known |= {name: CategoricalDistribution(values) for name, values in discrete(self.n_support).items()}
        return {name: known[name] for name in self.dimensions}

    def candidate(self, point: Mapping[str, Any], horizon: int) -> Candidate:
        """See `Space`."""
        settings = self.settings(point)
        kind: Kind = "adam" if settings.adaptive else "sgd"
        return Candidate(kind, settings.numbers(horizon), point.get("batch_size"), changes_of(point))

    def settings(self, point: Mapping[str, Any]) -> RuleSettings:
        """The optimizer of a point; L2 below 1e-5 is switched off."""
        full = DEFAULTS | {name: value for name, value in point.items() if name in DEFAULTS}
        l2 = full["l2"] if full["l2"] >= L2_OFF_BELOW else 0.0
        settings = RuleSettings(full["optimizer"], full["lr"], l2, full["momentum"], full["schedule"])
        if not settings.adaptive:
            return settings
        return RuleSettings(full["optimizer"], full["lr"] * ADAM_SHARE, l2, 0.0, full["schedule"])

    def record(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """See `Space`."""
        settings = self.settings(point).to_json()
        if settings["optimizer"] in ("adam", "adamw"):
            del settings["momentum"]
        return settings | {name: point[name] for name in ("batch_size", *CHANGES) if name in point}


def discrete(n_support: int) -> dict[str, tuple[Any, ...]]:
    """The choices that change the shapes of what is computed.

    Args:
        n_support: examples in a support set: all of them are the largest minibatch, if that is no larger than others.
    """
    sizes = tuple(sorted({min(size, n_support) for size in BATCH_SIZES}))
    return {"batch_size": sizes, "activation": tuple(ACTIVATIONS), "width": WIDTHS, "depth": DEPTHS}


def changes_of(point: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What a point changes in the model."""
    return tuple((name, point[name]) for name in CHANGES if name in point)


def grid_of(distributions: Mapping[str, BaseDistribution], trials: int) -> dict[str, list[Any]]:
    """A grid of at most so many points, as fine as that allows, finest in the learning rate.

    Args:
        distributions: of a space.
        trials: points at most, 1 or more.

    Returns:
        Values by parameter. Numbers lie evenly (on a log scale where the distribution does) inside their range.
    """
    counts = dict.fromkeys(distributions, 1)
    rates = [name for name in distributions if name.startswith("lr")]
    wishes = [
        *rates * 2,
        "optimizer",
        *rates,
        "l2",
        "l2_multiplier",
        "schedule",
        *rates,
        "batch_size",
        *counts,
        *rates * 2,
    ]
    before = None
    while counts != before:
        before = counts
        for name in wishes:
            if name in counts and counts[name] != _most(distributions[name]):
                finer = counts | {name: counts[name] + 1}
                counts = finer if math.prod(finer.values()) <= trials else counts
    return {name: _values(distributions[name], count) for name, count in counts.items()}


def _most(distribution: BaseDistribution) -> int | None:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else None


def _values(distribution: BaseDistribution, count: int) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        step = len(distribution.choices) / count
        return [distribution.choices[int(step * (i + 0.5))] for i in range(count)]
    assert isinstance(distribution, FloatDistribution), "a space has no other kinds"
    low, high = distribution.low, distribution.high
    shares = [(i + 0.5) / count for i in range(count)]
    return [low * (high / low) ** share if distribution.log else low + (high - low) * share for share in shares]
