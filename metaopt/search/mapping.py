"""From a policy to the space in which people search, and back into a narrow space around the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.models.variant import CHANGES
from metaopt.policies.baselines import DECAYS, Decay, RuleSettings, decay_factors
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.search.space import L2_OFF_BELOW, Candidate, changes_of, discrete

MULTIPLIERS = {"lr": 4.0, "l2": 100.0, "pull": 100.0, "init_std": 2.0, "dropout": 4.0, "input_noise": 4.0}
"""How far a strength is searched around the policy's, down and up, as a factor."""
KEPT = "kept as the policy has it"
IN_FULL = "searched in full"
ADAMS_MEAN = 0.9
"""How Adam's mean of the gradients decays, unless someone says otherwise."""


class Closest(NamedTuple):
    """A policy in the words of a conventional optimizer.

    Attributes:
        settings: one learning rate, one L2 coefficient, one momentum, one schedule.
        lost: what these cannot say, a phrase each.
    """

    settings: RuleSettings
    lost: tuple[str, ...]


def closest_setting(policy: Policy) -> Closest:
    """The conventional setting that is closest to a policy.

    Learning rate and L2 coefficient are geometric means over the network's parameters, which are closest in the squared
    distance of logarithms; the schedule is that one of the conventional ones, with its best scale, which is closest to
    the policy's factors in squared distance.
    """
    with torch.no_grad():
        rates = _by_element(policy, policy.strength("lr"))
        factors = _factors(policy, rates)
        fits = {name: _fit(name, factors) for name in DECAYS}
        schedule = min(DECAYS, key=lambda name: fits[name][1])
        strength = policy.strength("l2")
        l2 = 0.0 if strength is None else float(_by_element(policy, strength).log().mean().exp())
        momentum = policy.momentum()
        adaptive = policy.settings.preconditioner in ("second_moment", "sign")
    settings = RuleSettings(
        optimizer="adamw" if policy.settings.decoupled else "adam" if adaptive else "sgd",
        lr=float(rates.log().mean().exp()) * fits[schedule][0],
        l2=l2 if l2 >= L2_OFF_BELOW else 0.0,
        momentum=0.0 if adaptive or momentum is None else float(momentum),
        schedule=schedule,
    )
    return Closest(settings, tuple(_lost(policy)))


def _lost(policy: Policy) -> list[str]:
    settings = policy.settings
    found = [
        f"a value of its own for each {part.granularity} ({words})"
        for part, words in ((settings.lr, "learning rate"), (settings.l2, "L2 strength"))
        if part.mode == "learned" and part.granularity != "global"
    ]
    if settings.rule != "strengths":
        found.append("what the network does at each step")
    if settings.schedule != "off":
        found.append("the learned schedule's shape")
    found += [
        words
        for part, words in (
            (settings.pull, "the pull towards the initialisation"),
            (settings.label_smoothing, "label smoothing"),
            (settings.dropout, "dropout"),
            (settings.input_noise, "input noise"),
        )
        if part.mode != "off"
    ]
    if settings.preconditioner == "curvature":
        found.append("the matrices that gradients are multiplied with")
    if settings.preconditioner == "sign":
        found.append("steps by the sign alone")
    if settings.rule == "directions":
        found.append("the mixture of update directions")
    if settings.preconditioner == "second_moment" and not _has_adams_mean(policy):
        found.append("the decay of Adam's mean, which is not 0.9")
    return found


def _has_adams_mean(policy: Policy) -> bool:
    """Whether the gradients' mean decays as in Adam."""
    with torch.no_grad():
        momentum = policy.momentum()
        return momentum is not None and abs(float(momentum) - ADAMS_MEAN) < 1e-3


def _by_element(policy: Policy, strength: Mapping[str, Tensor | float] | None) -> Tensor:
    """A strength of every parameter of the network, [numbers]."""
    assert strength is not None, "the strength is on"
    shapes = policy.shapes
    return torch.cat(
        [torch.as_tensor(strength[n], dtype=torch.float64).expand(shape).flatten() for n, shape in shapes.items()]
    )


def _factors(policy: Policy, rates: Tensor) -> Tensor:
    """Geometric mean of the schedules' factors over the network's parameters, [horizon]."""
    schedule = policy.schedule()
    if schedule is None:
        return torch.ones(policy.horizon, dtype=torch.float64)
    logs = sum(shape.numel() * schedule[name].double().log() for name, shape in policy.shapes.items())
    return (torch.as_tensor(logs) / len(rates)).exp()


def _fit(name: Decay, factors: Tensor) -> tuple[float, float]:
    """The scale with which a conventional schedule is closest to the factors, and the squared distance."""
    shape = decay_factors(name, len(factors))
    scale = float((shape @ factors) / (shape @ shape))
    return scale, float((factors - scale * shape).square().sum())


@dataclass(frozen=True)
class PolicySpace:
    """Multipliers on what a policy has learned, and the discrete choices that are searched beside them.

    Attributes:
        quantities: the strengths that are multiplied, those of `MULTIPLIERS` that the policy has.
        choices: discrete dimensions, searched in full.
        n_support: examples in a support set, which bound the batch size.
        default: what the policy itself has of these choices.
    """

    quantities: tuple[str, ...]
    choices: tuple[str, ...]
    n_support: int
    default: tuple[tuple[str, Any], ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """See `Space`."""
        known = discrete(self.n_support)
        around: dict[str, BaseDistribution] = {
            f"{q}_multiplier": FloatDistribution(1 / MULTIPLIERS[q], MULTIPLIERS[q], log=True) for q in self.quantities
        }
        return around | {name: CategoricalDistribution(known[name]) for name in self.choices}

    @property
    def first(self) -> Sequence[Mapping[str, Any]]:
        """The policy as it is, then with one strength at a time half of the way up or down its range, on a log scale.

        Less regularisation, a larger initialisation and a higher learning rate come first: what one policy for all
        tasks gets wrong most often is to hold easy tasks back.
        """
        own = {f"{quantity}_multiplier": 1.0 for quantity in self.quantities} | dict(self.default)
        order = ("l2", "pull", "dropout", "input_noise", "init_std", "lr")
        freer = {q: 0.5 if q in ("lr", "init_std") else -0.5 for q in order}
        moves = [(q, share * sign) for sign in (1, -1) for q, share in freer.items() if q in self.quantities]
        return (own, *(own | {f"{q}_multiplier": MULTIPLIERS[q] ** share} for q, share in moves))

    def candidate(self, point: Mapping[str, Any], horizon: int) -> Candidate:
        """See `Space`."""
        numbers = {q: torch.tensor(point[f"{q}_multiplier"], dtype=torch.float64) for q in self.quantities}
        return Candidate("policy", numbers, point.get("batch_size"), changes_of(point))

    def record(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """See `Space`."""
        return dict(point)


def check_multiplied(settings: PolicySettings) -> None:
    """Raises ConfigError where a policy cannot be multiplied, and so no search can start from it."""
    if settings.optimizer != "metaopt":
        raise ConfigError(
            f"search.warm_start is on, but the policy runs torch's {settings.optimizer}, of which many trials cannot "
            "be trained side by side; use search.warm_start=false"
        )


def policy_space(
    policy: Policy, dimensions: Sequence[str], n_support: int, batch_size: int | None, spec: Mapping[str, Any]
) -> tuple[PolicySpace, dict[str, str]]:
    """The space around a policy, and what became of each dimension that a search without it would have.

    Args:
        policy: one that can be multiplied, see `check_multiplied`.
        dimensions: of the conventional space.
        n_support: examples in a support set.
        batch_size: the policy's; None: the whole support set.
        spec: of the model that the policy is evaluated with.
    """
    settings = policy.settings
    quantities = tuple(q for q in MULTIPLIERS if q == "init_std" or getattr(settings, q).mode != "off")
    if settings.init.mode != "scaled":
        quantities = tuple(q for q in quantities if q != "init_std")
    own = own_choices(n_support, batch_size, spec)
    networks = tuple(
        name for name in CHANGES if settings.fits_any_model() and (name != "depth" or _of_any_depth(policy))
    )
    choices = tuple(name for name in dimensions if name in own and name in ("batch_size", *networks))
    mapped = {
        q: f"a multiplier from {1 / MULTIPLIERS[q]:g} to {MULTIPLIERS[q]:g} on the policy's own" for q in quantities
    }
    for name in dimensions:
        if name not in mapped:
            mapped[name] = IN_FULL if name in choices else KEPT
    return PolicySpace(quantities, choices, n_support, tuple((name, own[name]) for name in choices)), mapped


def _of_any_depth(policy: Policy) -> bool:
    """Whether the policy has values for all that a deeper network has: for hidden layers too, where it tells roles."""
    settings = policy.settings
    parts = (settings.lr, settings.l2, settings.pull, settings.dropout)
    tables = {part.granularity for part in parts if part.mode == "learned"}
    tables |= {settings.init.granularity} if settings.init.mode == "scaled" else set()
    tables |= {settings.schedule_granularity()} if settings.schedule != "off" else set()
    return "role" not in tables or {"hidden.weight", "hidden.bias"} <= set(policy.known_roles)


def own_choices(n_support: int, batch_size: int | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a policy's own training has of the discrete choices, where it is among what is searched."""
    widths = list(spec.get("widths", ()))
    own = {
        "batch_size": n_support if batch_size is None else batch_size,
        "activation": spec.get("activation"),
        "width": widths[0] if len(set(widths)) == 1 else None,
        "depth": len(widths),
    }
    return {name: value for name, value in own.items() if value in discrete(n_support)[name]}
