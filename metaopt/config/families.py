"""The settings of task families and models, and the objects they build."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Optional, TypeAlias

from metaopt.config.checks import above, at_least, one_of
from metaopt.config.mixture import MIXTURE, MixtureConfig
from metaopt.config.signature import schema_of
from metaopt.errors import ConfigError
from metaopt.models.conv4 import conv4
from metaopt.models.layers import DOWNSAMPLES, NORMS
from metaopt.models.linear import linear
from metaopt.models.mixed_activation import ACTIVATIONS, MIXED
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.models.resnet import resnet
from metaopt.models.transformer import transformer
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.registry import FAMILIES
from metaopt.types import TaskSpec


@dataclass
class LinearConfig:
    """See `linear`."""

    name: str = "linear"


@dataclass
class MlpConfig:
    """See `mlp`."""

    name: str = "mlp"
    widths: list[int] = field(default_factory=lambda: [32, 32])
    activation: str = "relu"

    def __post_init__(self) -> None:
        for width in self.widths:
            at_least("model.widths", width, 1)
        one_of("model.activation", self.activation, (*ACTIVATIONS, MIXED))


@dataclass
class Conv4Config:
    """See `conv4`."""

    name: str = "conv4"
    channels: int = 64
    norm: str = "batch"
    downsample: str = "pool"

    def __post_init__(self) -> None:
        at_least("model.channels", self.channels, 1)
        one_of("model.norm", self.norm, NORMS)
        one_of("model.downsample", self.downsample, DOWNSAMPLES)


@dataclass
class ResnetConfig:
    """See `resnet`."""

    name: str = "resnet"
    channels: list[int] = field(default_factory=lambda: [16, 32, 64])
    blocks: int = 1
    norm: str = "batch"
    downsample: str = "stride"

    def __post_init__(self) -> None:
        if not self.channels:
            raise ConfigError("model.channels is []; it must name the channels of at least one stage")
        for channels in self.channels:
            at_least("model.channels", channels, 1)
        at_least("model.blocks", self.blocks, 1)
        one_of("model.norm", self.norm, NORMS)
        one_of("model.downsample", self.downsample, DOWNSAMPLES)


@dataclass
class TransformerConfig:
    """See `transformer`, which checks that the settings fit each other and the tasks."""

    name: str = "transformer"
    width: int = 32
    heads: int = 4
    depth: int = 2
    mlp_ratio: float = 2.0
    activation: str = "gelu"
    patch: Optional[int] = None  # noqa: UP045
    positions: bool = True

    def __post_init__(self) -> None:
        at_least("model.width", self.width, 1)
        at_least("model.heads", self.heads, 1)
        at_least("model.depth", self.depth, 1)
        above("model.mlp_ratio", self.mlp_ratio, 0)
        one_of("model.activation", self.activation, tuple(ACTIVATIONS))
        at_least("model.patch", self.patch, 1)


TasksConfig: TypeAlias = Any
"""An object with the settings of a family, `name` among them; see `tasks_schema`."""
ModelConfig: TypeAlias = LinearConfig | MlpConfig | Conv4Config | ResnetConfig | TransformerConfig
MODELS: dict[str, type[ModelConfig]] = {
    "linear": LinearConfig,
    "mlp": MlpConfig,
    "conv4": Conv4Config,
    "resnet": ResnetConfig,
    "transformer": TransformerConfig,
}


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
        ConfigError: it does not take such inputs, or its settings do not fit them.
    """
    settings = asdict(config)
    del settings["name"]
    match config:
        case LinearConfig():
            return linear(task)
        case MlpConfig():
            return mlp(task, **settings)
        case Conv4Config():
            return conv4(task, **settings)
        case ResnetConfig():
            return resnet(task, **settings)
        case TransformerConfig():
            return transformer(task, **settings)
