"""What can be configured of a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from metaopt.policies.settings import (
    DROPOUT,
    INPUT_NOISE,
    SMOOTHING,
    InitSettings,
    MomentumSettings,
    PolicySettings,
    StrengthSettings,
)


@dataclass
class StrengthConfig:
    """See `StrengthSettings`."""

    mode: str = "off"
    value: float = 1.0
    granularity: str = "global"


@dataclass
class MomentumConfig:
    """See `MomentumSettings`."""

    mode: str = "off"
    value: float = 0.9


@dataclass
class InitConfig:
    """See `InitSettings`."""

    mode: str = "fresh"
    granularity: str = "tensor"


@dataclass
class PolicyConfig:
    """See `PolicySettings`, which checks it."""

    name: str = "custom"
    lr: StrengthConfig = field(default_factory=StrengthConfig)
    l2: StrengthConfig = field(default_factory=StrengthConfig)
    pull: StrengthConfig = field(default_factory=StrengthConfig)
    momentum: MomentumConfig = field(default_factory=MomentumConfig)
    schedule: str = "off"
    init: InitConfig = field(default_factory=InitConfig)
    optimizer: str = "metaopt"
    preconditioner: str = "off"
    schedule_knots: Optional[int] = None  # noqa: UP045
    decoupled: bool = False
    rule: str = "strengths"
    order: str = "epochs"
    label_smoothing: StrengthConfig = field(default_factory=lambda: StrengthConfig(value=SMOOTHING.value))
    dropout: StrengthConfig = field(default_factory=lambda: StrengthConfig(value=DROPOUT.value))
    input_noise: StrengthConfig = field(default_factory=lambda: StrengthConfig(value=INPUT_NOISE.value))

    def settings(self) -> PolicySettings:
        """The same as a policy's own, checked settings."""

        def strength(config: StrengthConfig) -> StrengthSettings:
            return StrengthSettings(config.mode, config.value, config.granularity)  # type: ignore[arg-type]

        return PolicySettings(
            name=self.name,
            lr=strength(self.lr),
            l2=strength(self.l2),
            pull=strength(self.pull),
            momentum=MomentumSettings(self.momentum.mode, self.momentum.value),  # type: ignore[arg-type]
            schedule=self.schedule,  # type: ignore[arg-type]
            init=InitSettings(self.init.mode, self.init.granularity),  # type: ignore[arg-type]
            optimizer=self.optimizer,
            preconditioner=self.preconditioner,  # type: ignore[arg-type]
            schedule_knots=self.schedule_knots,
            decoupled=self.decoupled,
            rule=self.rule,  # type: ignore[arg-type]
            order=self.order,  # type: ignore[arg-type]
            label_smoothing=strength(self.label_smoothing),
            dropout=strength(self.dropout),
            input_noise=strength(self.input_noise),
        )
