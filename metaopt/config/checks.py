"""Range checks with one wording: which field, what came, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metaopt.errors import ConfigError


def at_least(field: str, value: float | None, low: float) -> None:
    """Raises ConfigError unless `value` is None or a finite number ≥ `low`."""
    if value is not None and not (math.isfinite(value) and value >= low):
        raise ConfigError(f"{field} is {value}; it must be at least {low}")


def within(field: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError unless `low` ≤ `value` ≤ `high`."""
    if not low <= value <= high:
        raise ConfigError(f"{field} is {value}; it must be at least {low} and at most {high}")


def above(field: str, value: float | None, low: float) -> None:
    """Raises ConfigError unless `value` is None or a finite number > `low`."""
    if value is not None and not (math.isfinite(value) and value > low):
        raise ConfigError(f"{field} is {value}; it must be greater than {low}")


def whole_number(field: str, value: object, otherwise: str) -> None:
    """Raises ConfigError unless `value` is an int; `otherwise` is what else the field may say."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{field} is {value!r}; it must be a whole number or {otherwise}")


def one_of(field: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError unless `value` is among `choices`."""
    if value not in choices:
        raise ConfigError(f"{field} is {value!r}; choose one of {', '.join(choices)}")
