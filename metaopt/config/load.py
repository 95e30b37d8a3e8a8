"""Composed YAML to typed configuration, with one-line errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from metaopt.config.families import MODELS, ModelConfig, TasksConfig, tasks_schemas
from metaopt.config.mixture import MIXTURE, MixtureConfig, Parts, parts_of_config
from metaopt.config.plain_yaml import LONGEST, parse_yaml
from metaopt.config.schema import DescribeConfig, EvaluateConfig, TrainConfig
from metaopt.errors import ConfigError
from metaopt.policies.strict_json import one_line

T = TypeVar("T")


def train_config(raw: DictConfig) -> TrainConfig:
    """The checked configuration of a meta-training run.

    Raises:
        ConfigError: a field is unknown, missing, of a wrong type or out of range.
    """
    config = typed(raw, TrainConfig)
    config.tasks, config.model = tasks_config(config.tasks), model_config(config.model)
    return config


def evaluate_config(raw: DictConfig) -> EvaluateConfig:
    """The checked configuration of an evaluation; see `train_config`."""
    checkpoint_path(raw)
    config = typed(raw, EvaluateConfig)
    config.tasks, config.model = tasks_config(config.tasks), model_config(config.model)
    return config


def describe_config(raw: DictConfig) -> DescribeConfig:
    """The checked configuration of a description; see `train_config`."""
    config = typed(raw, DescribeConfig)
    config.tasks = tasks_config(config.tasks)
    return config


def checkpoint_path(raw: DictConfig) -> Path:
    """What `checkpoint=` names; needed before the rest can be checked, which depends on it.

    Raises:
        ConfigError: it is missing.
    """
    if OmegaConf.is_missing(raw, "checkpoint"):
        raise ConfigError(
            "checkpoint is missing; give checkpoint=PATH: a run directory, policy.safetensors or checkpoint.pt"
        )
    return Path(str(raw.checkpoint))


def tasks_config(raw: Any) -> TasksConfig:
    """The checked settings of a task family, or of a mixture of several, chosen by their `name`."""
    if isinstance(raw, (dict, DictConfig)) and raw.get("name") == MIXTURE:
        mixture = typed(OmegaConf.create(raw), MixtureConfig, "tasks")
        parts_of_config(mixture, tasks_config)
        return mixture
    return typed(OmegaConf.create(raw), _by_name(raw, tasks_schemas(), "tasks"), "tasks")


def parts_config(tasks: TasksConfig) -> Parts:
    """The families of checked task settings: one, or those of a mixture."""
    return parts_of_config(tasks, tasks_config)


def model_config(raw: Any) -> ModelConfig:
    """The checked settings of a model, chosen by their `name`."""
    return typed(OmegaConf.create(raw), _by_name(raw, MODELS, "model"), "model")


def read_config(path: Path) -> TrainConfig:
    """The configuration that a run left in its directory.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        raw = parse_yaml(_text(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"no {path.name} in {path.parent}; resume needs the directory of a run of train_meta.py"
        ) from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} is damaged ({one_line(error)}); restore it or start the run again") from error
    return train_config(raw)


def _text(path: Path) -> str:
    """A file's text, or ValueError where it is no file, longer than a configuration is, or not UTF-8."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    if path.stat().st_size > 4 * LONGEST:
        raise ValueError(f"{path.stat().st_size} bytes; at most {4 * LONGEST} are read")
    return path.read_text(encoding="utf-8")


def to_yaml(config: TrainConfig | EvaluateConfig) -> str:
    """The configuration as YAML that `read_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def typed(raw: Any, schema: type[T], where: str = "") -> T:
    """Checks plain values against a dataclass.

    Args:
        raw: a DictConfig.
        schema: the dataclass; every field is checked, and no other field may be there.
        where: prefix of field names in errors.

    Raises:
        ConfigError: with the field's full name, what came and what was expected.
    """
    prefix = f"{where}." if where else ""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), raw)
        result = OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        name = f"{prefix}{error.full_key}"
        raise ConfigError(f"{name} is no known setting; {_siblings(error, name)}") from error
    except MissingMandatoryValue as error:
        raise ConfigError(f"{prefix}{error.full_key} is missing; give {prefix}{error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        field = f"{prefix}{error.full_key}" if error.full_key else where or "the configuration"
        if error.full_key and "is not a ListConfig" in str(error):
            came = OmegaConf.select(raw, error.full_key)
            raise ConfigError(f"{field} is {came!r}; it must be a list: write {field}=[{came}]") from error
        raise ConfigError(f"{field}: {_first_line(error)}") from error
    assert isinstance(result, schema)
    return result


def _by_name(raw: Any, choices: dict[str, type[T]], where: str) -> type[T]:
    name = raw.get("name") if isinstance(raw, (dict, DictConfig)) else None
    if name not in choices:
        raise ConfigError(f"{where}.name is {name!r}; choose one of {', '.join(choices)}")
    return choices[name]


def _siblings(error: ConfigKeyError, name: str) -> str:
    group = name[: name.rfind(".") + 1]
    fields = sorted(getattr(error.object_type, "__dataclass_fields__", {}))
    return f"known here: {', '.join(group + field for field in fields)}" if fields else "look at --help"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
