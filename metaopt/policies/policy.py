"""The policy: a module whose parameters are what is meta-learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from metaopt.models.initial import Moments
from metaopt.models.model import Model
from metaopt.models.roles import CHOICE
from metaopt.policies.kinds import KINDS
from metaopt.policies.loss_strengths import LossStrengths, inner_loss, places_of
from metaopt.policies.meta_curvature import identities, matrix_key, modes, preconditioned
from metaopt.policies.rule import InnerLoss, Site, Start, Strength, Strengths, UpdateRule
from metaopt.policies.second_moment import normalised_step
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.policies.sign import signed_step
from metaopt.policies.step import holding, regularised_step
from metaopt.policies.strength_tables import strength_tables
from metaopt.policies.tables import GLOBAL, encode, exponentials, interpolated, logit, spread, table
from metaopt.policies.torch_optimizer import torch_optimizer_rule
from metaopt.types import Params

Values: TypeAlias = dict[str, dict[str, Tensor]]
"""What a policy has learned, in the units of the inner step: by quantity, by encoded parameter name or `GLOBAL`."""


class Policy(nn.Module):
    """Learned strengths, schedule and initialisation for one model, and the inner step that they make.

    All parameters are unconstrained: positive quantities are stored as logarithms, momentum behind a sigmoid, and what
    may have any sign as it is. As a function of (parameters, noise) the module is pure, so that
    `torch.func.functional_call` differentiates through it.

    Args:
        settings: what is off, fixed and learned.
        shapes: the model's parameter tensors.
        init: how torch would draw them.
        horizon: number of inner steps for which a schedule is learned; ≥ 1.
        generator: draws the starting point of a learned initialisation.
        roles: role of each parameter tensor, see `roles_of`; needed where a granularity is `role`, and where a tensor
            is a choice, which the policy learns and no inner step trains.
        known_roles: roles that the policy has values for, besides those of its own model.

    Attributes:
        known_roles: roles of which there are values.
        held: parameter tensors that are choices.
        span: number of steps of the training at hand, by which a rule that looks at its position in the training goes;
            at first the horizon.
        mixed: what it was sharpened from, if it was: by the kind of thing that was chosen, the weights by name.
        vector: what all parameters look into, [numbers], where they have been moved into one vector; else None.
    """

    def __init__(
        self,
        settings: PolicySettings,
        shapes: Mapping[str, torch.Size],
        init: Mapping[str, Moments],
        horizon: int,
        generator: torch.Generator | None = None,
        roles: Mapping[str, str] | None = None,
        known_roles: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.shapes = dict(shapes)
        self.roles = {name: role for name, role in (roles or {}).items() if role != CHOICE}
        self.held = tuple(name for name, role in (roles or {}).items() if role == CHOICE)
        self.moments = dict(init)
        self.horizon = horizon
        self.span = horizon
        self.mixed: dict[str, dict[str, float]] = {}
        self.vector: Tensor | None = None
        self.known_roles = tuple(r for r in dict.fromkeys([*self.roles.values(), *known_roles]) if r != CHOICE)
        shapes = self.trained
        self.log_strengths = nn.ModuleDict(strength_tables(settings, shapes, init, self.roles, known_roles))
        if settings.momentum.mode == "learned":
            self.momentum_logit = logit(settings.momentum.value)
        if settings.label_smoothing.mode == "learned":
            self.smoothing_logit = logit(settings.label_smoothing.value)
        if settings.schedule != "off":
            knots = settings.schedule_knots
            size = (horizon if knots is None else knots,)
            self.log_schedule = table(shapes, settings.schedule_granularity(), 0.0, self.known_roles, size)
        if settings.preconditioner == "curvature":
            matrices = identities(shapes)
            self.curvature = nn.ParameterDict({key: nn.Parameter(matrix) for key, matrix in matrices.items()})
        own = KINDS[settings.rule].numbers(settings, generator)
        if own:
            self.own = nn.ParameterDict({key: nn.Parameter(value) for key, value in own.items()})
        self.choice = nn.ParameterDict({encode(n): nn.Parameter(torch.zeros(self.shapes[n])) for n in self.held})
        if settings.init.mode == "learned":
            draws = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
            start = {name: init[name].start(draw) for name, draw in draws.items()}
            self.init = nn.ParameterDict({encode(name): nn.Parameter(value) for name, value in start.items()})

    @property
    def trained(self) -> dict[str, torch.Size]:
        """The parameter tensors that inner steps train."""
        return {name: shape for name, shape in self.shapes.items() if name not in self.held}

    @property
    def progressive(self) -> bool:
        """Whether support examples join training one part after the other."""
        return self.settings.order == "progressive"

    def forward(self, noise: Params, span: Tensor | None = None, values: Values | None = None) -> Start:
        """Initial parameters and update rule for one task.

        Args:
            noise: standard normal, of the shape of each parameter tensor; a learned initialisation ignores it.
            span: stands in for the policy's own; a scalar.
            values: likewise, such as those that `scaled` gives.
        """
        values = self.values() if values is None else values
        return Start(self.start(noise, values), self.rule(noise, values, span), self.inner_loss(values))

    def values(self) -> Values:
        """Everything that is learned, out of its logarithms: to be read once, and used in every task and step."""
        values = {quantity: exponentials(logs) for quantity, logs in self.log_strengths.items()}
        if self.settings.momentum.mode == "learned":
            values["momentum"] = {GLOBAL: torch.sigmoid(self.momentum_logit)}
        if self.settings.label_smoothing.mode == "learned":
            values["label_smoothing"] = {GLOBAL: torch.sigmoid(self.smoothing_logit)}
        if self.settings.schedule != "off":
            values["schedule"] = self._factors()
        if self.settings.preconditioner == "curvature":
            values["curvature"] = dict(self.curvature.items())
        if self.settings.rule != "strengths":
            values["own"] = dict(self.own.items())
        if self.held:
            values["choice"] = dict(self.choice.items())
        if self.settings.init.mode == "learned":
            values["init"] = dict(self.init.items())
        return values

    def scaled(self, factors: Mapping[str, Tensor]) -> Values:
        """What `values` gives, with all of a strength multiplied.

        Args:
            factors: positive scalars by quantity, `lr`, `l2`, `pull`, `init_std`, `dropout` or `input_noise`, of those
                that are not off.
        """
        values = self.values()
        for quantity, factor in factors.items():
            fixed: StrengthSettings | None = getattr(self.settings, quantity, None)
            own = values.get(quantity) or {GLOBAL: torch.ones_like(factor) * (fixed.value if fixed else 1.0)}
            values[quantity] = {key: factor * value for key, value in own.items()}
        return values

    def start(self, noise: Params, values: Values | None = None) -> Params:
        """θ₀ = m₀ + σ ⊙ ε.

        Args:
            noise: ε; see `forward`.
            values: stand in for the policy's own.
        """
        values = self.values() if values is None else values
        learned = values.get("init", {}) | values.get("choice", {})
        ratio = self.strength("init_std", values)
        start: Params = {}
        for name in self.shapes:
            if encode(name) in learned:
                start[name] = learned[encode(name)]
                continue
            moments = self.moments[name]
            start[name] = moments.start(noise[name], None if ratio is None or moments.std == 0 else ratio[name])
        return start

    def rule(self, noise: Params, values: Values | None = None, span: Tensor | None = None) -> UpdateRule:
        """The update rule of a task; see `start` and `forward` for the arguments."""
        values = self.values() if values is None else values
        return self.rule_of(self.strengths(noise, values), values, span)

    def strengths(self, noise: Params, values: Values | None = None) -> Strengths:
        """What the steps of a task are made with; see `start` for the arguments."""
        values = self.values() if values is None else values
        lr, pull = self.strength("lr", values), self.strength("pull", values)
        assert lr is not None, "settings are checked to have a learning rate"
        return Strengths(
            lr=lr,
            l2=self.strength("l2", values),
            pull=pull,
            anchor=None if pull is None else self.start(noise, values),
            momentum=self.momentum(values),
            schedule=self.schedule(values),
        )

    def rule_of(
        self, strengths: Strengths, values: Values, span: Tensor | None = None, in_place: bool = False
    ) -> UpdateRule:
        """The update rule that strengths make; see `rule`, and `step_along` for `in_place`, which some rules ignore."""
        if self.settings.optimizer != "metaopt":
            return torch_optimizer_rule(self.settings.optimizer, strengths.lr)
        stds = {name: moments.std for name, moments in self.moments.items()}
        site = Site(self.roles, stds, self.span if span is None else span, self.progressive, in_place)
        plain = partial(self._plain, in_place=in_place)
        rule = KINDS[self.settings.rule].rule(strengths, values.get("own", {}), site, plain)
        rule = preconditioned(rule, values["curvature"]) if self.settings.preconditioner == "curvature" else rule
        return holding(rule, self.held)

    def _plain(self, strengths: Strengths, in_place: bool) -> UpdateRule:
        """The inner step in which no network takes part."""
        if self.settings.preconditioner == "second_moment":
            return normalised_step(**strengths._asdict(), decoupled=self.settings.decoupled, in_place=in_place)
        step = signed_step if self.settings.preconditioner == "sign" else regularised_step
        return step(**strengths._asdict(), in_place=in_place)

    def inner_loss(self, values: Values | None = None) -> InnerLoss | None:
        """What is made of a task's loss at each step; None where nothing enters it. `values`: see `start`."""
        strengths = self.loss_strengths(values)
        return inner_loss(strengths) if any(part is not None for part in strengths) else None

    def loss_strengths(self, values: Values | None = None) -> LossStrengths:
        """What enters the inner loss."""
        values = self.values() if values is None else values
        smoothing, noise = (self._number(name, values) for name in ("label_smoothing", "input_noise"))
        return LossStrengths(smoothing, self.strength("dropout", values) or None, noise)

    def strength(self, quantity: str, values: Values | None = None) -> Strength | None:
        """A strength by parameter tensor; None where it is off.

        Args:
            quantity: `lr`, `l2`, `pull`, `init_std` (relative to torch's) or `dropout`, which is by the weight of the
                layer whose inputs it multiplies.
            values: stand in for the policy's own.
        """
        values = self.values() if values is None else values
        names = places_of(self.roles) if quantity == "dropout" else tuple(self.trained)
        if quantity in values:
            return spread(values[quantity], self.granularity(quantity), names, self.roles)
        fixed: StrengthSettings | None = getattr(self.settings, quantity, None)
        if fixed is None or fixed.mode == "off":
            return None
        return dict.fromkeys(names, fixed.value)

    def granularity(self, quantity: str) -> str:
        """That of the table of a quantity; what is not learned is one number for all."""
        if quantity == "schedule":
            return self.settings.schedule_granularity()
        if quantity not in self.log_strengths:
            return "global"
        part = self.settings.init if quantity == "init_std" else getattr(self.settings, quantity)
        return part.granularity

    def _number(self, quantity: str, values: Values) -> Tensor | float | None:
        """A strength that there is one of; None where it is off."""
        fixed: StrengthSettings = getattr(self.settings, quantity)
        if quantity in values:
            return values[quantity][GLOBAL]
        return None if fixed.mode == "off" else fixed.value

    def momentum(self, values: Values | None = None) -> Tensor | float | None:
        """μ, or None where it is off."""
        match self.settings.momentum.mode:
            case "off":
                return None
            case "fixed":
                return self.settings.momentum.value
            case "learned":
                return (self.values() if values is None else values)["momentum"][GLOBAL]

    def matrices(self) -> dict[str, list[Tensor]]:
        """What gradients are multiplied with, by parameter tensor and mode; empty where there is no preconditioner."""
        if self.settings.preconditioner != "curvature":
            return {}
        return {
            n: [self.curvature[matrix_key(n, mode)] for mode in range(len(modes(s)))] for n, s in self.trained.items()
        }

    def schedule(self, values: Values | None = None) -> dict[str, Tensor] | None:
        """Factors s_t by parameter tensor, each [horizon]; None where the schedule is off."""
        if self.settings.schedule == "off":
            return None
        factors = (self.values() if values is None else values)["schedule"]
        return spread(factors, self.granularity("schedule"), tuple(self.trained), self.roles)

    def on(self, model: Model) -> Policy:
        """The same policy for another model: it shares all parameters, which must not belong to one model's tensors."""
        other = copy(self)
        other.shapes, other.moments = dict(model.shapes), dict(model.init)
        other.roles = {name: role for name, role in model.roles.items() if role != CHOICE}
        other.held = tuple(name for name, role in model.roles.items() if role == CHOICE)
        return other

    def lasting(self, steps: int) -> Policy:
        """The same policy for trainings of another length; it shares all parameters."""
        other = copy(self)
        other.span = steps
        return other

    def is_but_for_span(self, other: Policy) -> bool:
        """Whether both are the same policy, perhaps for trainings of different lengths; see `lasting`."""
        if self is other:
            return True
        own, its = vars(self), vars(other)
        return own.keys() == its.keys() and all(own[key] is its[key] for key in own if key != "span")

    def _factors(self) -> dict[str, Tensor]:
        """Factors of the schedules at each step, [horizon], by key of the table."""
        if self.settings.schedule_knots is None:
            return exponentials(self.log_schedule)
        return {key: interpolated(knots, self.horizon).exp() for key, knots in self.log_schedule.items()}
