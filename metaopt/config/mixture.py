"""`tasks=mixture`: several families in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from metaopt.config.checks import above
from metaopt.errors import ConfigError
from metaopt.policies.settings import PolicySettings

MIXTURE = "mixture"


@dataclass
class MixtureConfig:
    """Several families.

    Attributes:
        parts: by a name of one's choice, the settings of a family as below `tasks`, and a `weight`: how many tasks of a
            meta-batch it has, relative to the others (default: 1). The family's `name` may be left out where the part
            has the same.
    """

    name: str = MIXTURE
    parts: Optional[dict[str, Any]] = None  # noqa: UP045


@dataclass(frozen=True)
class Parts:
    """The parts of `tasks`: one, named "", where it is no mixture.

    Attributes:
        configs: checked settings of each family.
        weights: of each.
    """

    configs: dict[str, Any]
    weights: dict[str, float]


def parts_of_config(tasks: Any, check: Callable[[Any], Any]) -> Parts:
    """The parts of checked task settings.

    Args:
        tasks: the settings.
        check: checks the settings of one family.

    Raises:
        ConfigError: a mixture has no parts, or one of them has impossible settings.
    """
    if not isinstance(tasks, MixtureConfig):
        return Parts({"": tasks}, {"": 1.0})
    given = tasks.parts or {}
    if len(given) < 2:
        raise ConfigError(
            f"tasks.parts must have two families or more, but has {len(given)}; give "
            "'tasks.parts={digits: {}, sinusoid: {weight: 0.5}}', say"
        )
    configs: dict[str, Any] = {}
    weights: dict[str, float] = {}
    for name, raw in given.items():
        settings = dict(raw or {})
        if not str(name).isidentifier() or settings.get("name", name) == MIXTURE:
            raise ConfigError(f"tasks.parts.{name} must be named by one word and be a family, not a mixture itself")
        weight = settings.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ConfigError(f"tasks.parts.{name}.weight is {weight!r}; it must be a number greater than 0")
        above(f"tasks.parts.{name}.weight", weight, 0)
        try:
            configs[name] = check({"name": name, **settings})
        except ConfigError as error:
            raise ConfigError(f"tasks.parts.{name}: {error}") from error
        weights[name] = float(weight)
    return Parts(configs, weights)


def check_mixture(parts: Parts, settings: PolicySettings) -> None:
    """Raises ConfigError where several families are to share a policy that fits one model only."""
    if len(parts.configs) > 1 and not settings.fits_any_model():
        raise ConfigError(
            f"policy '{settings.name}' learns values for single tensors of one model, but the families of "
            "tasks=mixture have models of different sizes; use policy=role or policy=global"
        )
