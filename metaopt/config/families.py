"""The settings of task families and models, and the objects they build."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from metaopt.config.checks import at_least, one_of
from metaopt.config.mixture import MIXTURE, MixtureConfig
from metaopt.config.signature import schema_of
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import ACTIVATIONS, mlp
from metaopt.models.model import Model
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.registry import FAMILIES
from metaopt.types import TaskSpec


@dataclass
class MlpConfig:
    """See `mlp`."""

    name: str = "mlp"
    widths: list[int] = field(default_factory=lambda: [32, 32])
    activation: str = "relu"

    def __post_init__(self) -> None:
        for width in self.widths:
            at_least("model.widths", width, 1)
        one_of("model.activation", self.activation, tuple(ACTIVATIONS))


@dataclass
class Conv4Config:
    """See `conv4`."""

    name: str = "conv4"
    channels: int = 64
    norm: str = "batch"
    downsample: str = "pool"

    def __post_init__(self) -> None:
        at_least("model.channels", self.channels, 1)
        one_of("model.norm", self.norm, ("batch", "layer", "group", "none"))
        one_of("model.downsample", self.downsample, ("pool", "stride"))


TasksConfig: TypeAlias = Any
"""An object with the settings of a family, `name` among them; see `tasks_schema`."""
ModelConfig: TypeAlias = MlpConfig | Conv4Config
MODELS: dict[str, type[ModelConfig]] = {"mlp": MlpConfig, "conv4": Conv4Config}


def tasks_schemas() -> dict[str, type]:
    """The schema of each family that is known, by name, and of a mixture of several."""
    return {name: schema_of(name, family) for name, family in FAMILIES.items()} | {MIXTURE: MixtureConfig}


def build_family(config: TasksConfig) -> TaskFamily:
    """The task family.

    Raises:
        TaskError: it cannot serve such tasks.
        DataError: its data are missing.
    """
    settings = asdict(config)
    return FAMILIES[settings.pop("name")](**settings)


def build_model(config: ModelConfig, task: TaskSpec) -> Model:
    """The model for a family's inputs and outputs.

    Raises:
        ConfigError: it does not take such inputs.
    """
    match config:
        case MlpConfig():
            return mlp(task, config.widths, config.activation)  # type: ignore[arg-type]
        case Conv4Config():
            return conv4(task, config.channels, config.norm, config.downsample)  # type: ignore[arg-type]
