"""The settings of task families and models, and the objects they build."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Optional, TypeAlias

from metaopt.config.checks import at_least, one_of
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import ACTIVATIONS, mlp
from metaopt.models.model import Model
from metaopt.tasks.digits import Digits
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.omniglot import Omniglot
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.types import TaskSpec


@dataclass
class DigitsConfig:
    """See `Digits`."""

    name: str = "digits"
    n_way: int = 5
    support: int = 10
    query: int = 15
    test: int = 40
    rotations: bool = True
    noise: float = 0.0
    split_seed: int = 0


@dataclass
class SinusoidConfig:
    """See `Sinusoid`."""

    name: str = "sinusoid"
    support: int = 5
    query: int = 10
    test: int = 100


@dataclass
class OmniglotConfig:
    """See `Omniglot`."""

    name: str = "omniglot"
    root: str = "data"
    download: bool = False
    n_way: int = 5
    support: int = 1
    query: int = 10
    test: int = 9
    rotations: bool = True
    split_files: Optional[str] = None  # noqa: UP045
    split_seed: int = 0


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


TasksConfig: TypeAlias = DigitsConfig | SinusoidConfig | OmniglotConfig
ModelConfig: TypeAlias = MlpConfig | Conv4Config
TASKS: dict[str, type[TasksConfig]] = {"digits": DigitsConfig, "sinusoid": SinusoidConfig, "omniglot": OmniglotConfig}
MODELS: dict[str, type[ModelConfig]] = {"mlp": MlpConfig, "conv4": Conv4Config}


def build_family(config: TasksConfig) -> TaskFamily:
    """The task family.

    Raises:
        TaskError: it cannot serve such tasks.
        DataError: its data are missing.
    """
    settings = asdict(config)
    del settings["name"]
    match config:
        case DigitsConfig():
            return Digits(**settings)
        case SinusoidConfig():
            return Sinusoid(**settings)
        case OmniglotConfig():
            return Omniglot(**settings)


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
