"""What a policy consists of, as plain data: it goes into the policy file and comes back from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

from metaopt.errors import ConfigError

Mode: TypeAlias = Literal["off", "fixed", "learned"]
Granularity: TypeAlias = Literal["global", "role", "tensor", "element"]
MODES: tuple[Mode, ...] = ("off", "fixed", "learned")
GRANULARITIES: tuple[Granularity, ...] = ("global", "role", "tensor", "element")
SCHEDULES = ("off", "step", "step_role", "step_tensor")
INITS = ("fresh", "scaled", "learned")
PRECONDITIONERS = ("off", "curvature", "second_moment", "sign")
RULES = ("strengths", "adaptive", "learned_optimizer", "directions")
ORDERS = ("epochs", "progressive")
MOST_KNOTS = 1000
STRENGTHS = ("lr", "l2", "pull", "label_smoothing", "dropout", "input_noise")
OPTIMIZERS = ("metaopt", "Adadelta", "Adagrad", "Adam", "Adamax", "ASGD", "RMSprop", "Rprop", "SGD")


@dataclass(frozen=True)
class StrengthSettings:
    """A positive quantity of the inner step.

    Attributes:
        mode: off (absent), fixed, or learned.
        value: the fixed value, or where learning starts; > 0.
        granularity: one number, one per role (see `roles_of`), one per parameter tensor, or one per parameter.
    """

    mode: Mode = "off"
    value: float = 1.0
    granularity: Granularity = "global"


SMOOTHING, DROPOUT, INPUT_NOISE = (StrengthSettings("off", value) for value in (0.05, 0.1, 0.1))
ADDED_LATER: dict[str, Any] = {
    "preconditioner": "off",
    "schedule_knots": None,
    "rule": "strengths",
    "order": "epochs",
    "decoupled": False,
    "label_smoothing": asdict(SMOOTHING),
    "dropout": asdict(DROPOUT),
    "input_noise": asdict(INPUT_NOISE),
}
"""What files that were written before there was such a setting mean."""


@dataclass(frozen=True)
class MomentumSettings:
    """Momentum μ in (0, 1): off, fixed, or learned behind a sigmoid, from `value`."""

    mode: Mode = "off"
    value: float = 0.9


@dataclass(frozen=True)
class InitSettings:
    """Where training starts.

    Attributes:
        mode: `fresh` draws as torch does; `scaled` also learns the standard deviation; `learned` learns the
            initialisation itself, the same for every task.
        granularity: of the learned standard deviation; a learned initialisation always has one value per parameter.
    """

    mode: Literal["fresh", "scaled", "learned"] = "fresh"
    granularity: Granularity = "tensor"


@dataclass(frozen=True)
class PolicySettings:
    """A whole policy.

    Attributes:
        name: what people call it.
        lr: learning rate α.
        l2: L2 strength λ.
        pull: pull ρ towards the initialisation.
        momentum: momentum μ.
        schedule: `off`, or a learned factor for each step: one for all (`step`), one per role (`step_role`) or one per
            parameter tensor (`step_tensor`).
        init: the initialisation.
        optimizer: `metaopt` for metaopt's own inner step, else the class name of a torch optimizer, whose learning
            rate is `lr` at granularity global, role or tensor, and which runs under inner.engine=higher only.
        preconditioner: what is done to each gradient first. `off`; `curvature`: it is multiplied with learned matrices
            (Meta-Curvature); `second_moment`: with L2 and pull, it is divided by the root of its second moment, and
            momentum is Adam's β₁ (`normalised_step`); `sign`: with L2 and pull, its sign is what counts
            (`signed_step`).
        schedule_knots: None: a schedule has a factor of its own for each step. A number: it has so many, evenly spaced
            from the first step to the last, and between them its logarithm is linear. Few factors average over the
            noise of many steps.
        decoupled: with `second_moment`: L2 shrinks the parameters themselves instead of being added to gradients that
            are then divided (`normalised_step`), so that it means the same whatever the gradients are.
        rule: what the strengths are for: the plain inner step (`strengths`), one in which a learned network takes part,
            or a learned mixture of directions; see `KINDS`.
        order: how training goes through the support set: in `epochs`, or `progressive`, one part joining after the
            other, so that an adaptive rule sees how well it predicts what it has not trained on (`progressive_order`).
        label_smoothing: share in (0, 1) of each target that is spread evenly over the task's classes, learned behind a
            sigmoid; one for all classes. It enters the loss that training sees, as the two below do, and no other.
        dropout: rates of Gaussian dropout: what goes into each layer but the first is multiplied with 1 + rate ε, ε
            standard normal; granularity global, role or tensor, which is one rate per layer.
        input_noise: strength of the Gaussian noise that is added to the inputs; one for all inputs.
    """

    name: str = "custom"
    lr: StrengthSettings = StrengthSettings("learned", 0.1, "element")
    l2: StrengthSettings = StrengthSettings("off", 1e-4)
    pull: StrengthSettings = StrengthSettings("off", 1e-3)
    momentum: MomentumSettings = MomentumSettings()
    schedule: Literal["off", "step", "step_role", "step_tensor"] = "off"
    init: InitSettings = InitSettings()
    optimizer: str = "metaopt"
    preconditioner: Literal["off", "curvature", "second_moment", "sign"] = "off"
    schedule_knots: int | None = None
    decoupled: bool = False
    rule: Literal["strengths", "adaptive", "learned_optimizer", "directions"] = "strengths"
    order: Literal["epochs", "progressive"] = "epochs"
    label_smoothing: StrengthSettings = SMOOTHING
    dropout: StrengthSettings = DROPOUT
    input_noise: StrengthSettings = INPUT_NOISE

    def __post_init__(self) -> None:
        """Raises ConfigError for values that make no policy."""
        for name in STRENGTHS:
            strength: StrengthSettings = getattr(self, name)
            _check_choice(f"policy.{name}.mode", strength.mode, MODES)
            _check_choice(f"policy.{name}.granularity", strength.granularity, GRANULARITIES)
            most = 1.0 if name == "label_smoothing" else float("inf")
            _check_number(f"policy.{name}.value", strength.value, 0.0, most)
        self._check_loss_strengths()
        _check_choice("policy.momentum.mode", self.momentum.mode, MODES)
        _check_number("policy.momentum.value", self.momentum.value, 0.0, 1.0)
        _check_choice("policy.schedule", self.schedule, SCHEDULES)
        _check_choice("policy.init.mode", self.init.mode, INITS)
        _check_choice("policy.init.granularity", self.init.granularity, GRANULARITIES)
        _check_choice("policy.optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("policy.preconditioner", self.preconditioner, PRECONDITIONERS)
        _check_choice("policy.rule", self.rule, RULES)
        _check_choice("policy.order", self.order, ORDERS)
        if self.decoupled and self.rule == "learned_optimizer":
            raise ConfigError(
                "policy.decoupled is true, which policy.rule=learned_optimizer does not know; set it false"
            )
        if self.decoupled is not False and (self.decoupled is not True or self.preconditioner != "second_moment"):
            raise ConfigError(
                f"policy.decoupled is {self.decoupled!r} and policy.preconditioner {self.preconditioner!r}; only with "
                "second_moment can it be true"
            )
        if self.schedule_knots is not None:
            _check_knots(self.schedule_knots)
        if self.lr.mode == "off":
            raise ConfigError(
                "policy.lr.mode is 'off', but nothing trains without a learning rate; use fixed or learned"
            )
        if self.optimizer != "metaopt":
            self._check_torch_optimizer()
        elif self.rule == "learned_optimizer" and self.preconditioner != "second_moment":
            raise ConfigError(
                f"policy.preconditioner is {self.preconditioner!r}, but policy.rule=learned_optimizer begins as "
                "Adam and divides by second moments itself; set it to second_moment"
            )
        if self.rule == "directions":
            self._check_directions()
        if not self.learned():
            raise ConfigError(f"policy '{self.name}' learns nothing; set at least one of its modes to 'learned'")

    def _check_loss_strengths(self) -> None:
        for name, what in (("label_smoothing", "all classes"), ("input_noise", "all inputs")):
            granularity = getattr(self, name).granularity
            if granularity != "global":
                raise ConfigError(
                    f"policy.{name}.granularity is {granularity!r}, but there is one strength for {what}; use global"
                )
        if self.dropout.granularity == "element":
            raise ConfigError(
                "policy.dropout.granularity is 'element', but a layer has one dropout rate; use global, role or tensor"
            )

    def _check_torch_optimizer(self) -> None:
        used = [name for name in ("l2", "pull", "momentum") if getattr(self, name).mode != "off"]
        used += [name for name in ("schedule", "preconditioner") if getattr(self, name) != "off"]
        used += ["rule"] if self.rule != "strengths" else []
        if used:
            found = ", ".join(used)
            raise ConfigError(
                f"policy.optimizer={self.optimizer} learns its learning rate, the initialisation and what enters the "
                f"loss, but {found} is on; switch it off, or use policy.optimizer=metaopt"
            )
        if self.lr.granularity == "element":
            raise ConfigError(
                f"policy.lr.granularity is 'element', but torch's {self.optimizer} has one learning rate per parameter "
                "group; use global, role or tensor"
            )

    def _check_directions(self) -> None:
        if self.momentum.mode == "off":
            raise ConfigError(
                "policy.momentum.mode is 'off', but policy.rule=directions mixes in steps with momentum; use learned "
                "or fixed"
            )
        if self.preconditioner != "off":
            raise ConfigError(
                f"policy.preconditioner is '{self.preconditioner}', but policy.rule=directions mixes steps with and "
                "without one itself; use off"
            )

    def learned(self) -> frozenset[str]:
        """Names of the quantities that are learned."""
        names = {name for name in (*STRENGTHS, "momentum") if getattr(self, name).mode == "learned"}
        if self.schedule != "off":
            names.add("schedule")
        if self.init.mode == "scaled":
            names.add("init_std")
        if self.init.mode == "learned":
            names.add("init")
        if self.preconditioner == "curvature":
            names.add(self.preconditioner)
        if self.rule != "strengths":
            names.add(self.rule)
        return frozenset(names)

    def draws_noise(self) -> bool:
        """Whether each step of training needs random numbers."""
        return self.dropout.mode != "off" or self.input_noise.mode != "off"

    def schedule_granularity(self) -> Granularity:
        """What has a schedule of its own, where there is one."""
        return {"step": "global", "step_role": "role"}.get(self.schedule, "tensor")  # type: ignore[return-value]

    def tells_steps_apart(self) -> bool:
        """Whether the steps of different parameter tensors are made with different learned numbers."""
        tables = {part.granularity for part in (self.lr, self.l2, self.pull) if part.mode == "learned"}
        return not tables <= {"global"} or (self.schedule != "off" and self.schedule_granularity() != "global")

    def fits_any_model(self) -> bool:
        """Whether all that is learned is learned for all tensors alike or for roles, and nothing for one tensor."""
        parts = (self.lr, self.l2, self.pull, self.dropout)
        tables = {part.granularity for part in parts if part.mode == "learned"}
        if self.init.mode == "scaled":
            tables.add(self.init.granularity)
        if self.schedule != "off":
            tables.add(self.schedule_granularity())
        alone = self.init.mode != "learned" and self.preconditioner != "curvature"
        return alone and tables <= {"global", "role"}

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Any) -> PolicySettings:
        """The inverse of `to_json`, for data of any origin.

        Raises:
            ConfigError: a key is missing or unknown, or a value is not what it should be.
        """
        if isinstance(data, dict):
            data = ADDED_LATER | data
        parts: dict[str, Any] = dict(_exactly(data, PolicySettings, "policy"))
        kinds: dict[str, type] = dict.fromkeys(STRENGTHS, StrengthSettings)
        for name, part in (kinds | {"momentum": MomentumSettings, "init": InitSettings}).items():
            parts[name] = part(**_exactly(parts[name], part, f"policy.{name}"))
        if not isinstance(parts["name"], str):
            raise ConfigError(f"policy.name must be a string, not {parts['name']!r}")
        return PolicySettings(**parts)


def _exactly(data: Any, kind: type, where: str) -> dict[str, Any]:
    expected = {field.name for field in fields(kind)}
    if not isinstance(data, dict) or set(data) != expected:
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ConfigError(f"{where} must have exactly the keys {sorted(expected)}, but has {found}")
    return data


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{field} is {value!r}; choose one of {', '.join(choices)}")


def _check_knots(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MOST_KNOTS:
        raise ConfigError(f"policy.schedule_knots is {value!r}; it must be null or from 2 to {MOST_KNOTS}")


def _check_number(field: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value < high:
        raise ConfigError(f"{field} is {value!r}; it must be a number strictly between {low} and {high}")
