"""A constructor's parameters as a schema that checks YAML."""

from __future__ import annotations

from dataclasses import field, make_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Optional, Union, get_args, get_origin

from metaopt.errors import ConfigError
from metaopt.tasks.registry import FamilyClass, parameters_of


@cache
def schema_of(name: str, family: FamilyClass) -> type:
    """The dataclass whose fields are a family's settings, with `name` before them.

    Raises:
        ConfigError: a parameter's type is none that a YAML file can hold.
    """
    fields = [("name", str, field(default=name))]
    for parameter, (kind, default) in parameters_of(family).items():
        where = f"{family.__name__}.__init__: parameter '{parameter}'"
        fields.append((parameter, _readable(kind, where), _with_default(default)))
    return make_dataclass(f"{family.__name__}Config", fields)


def _readable(kind: Any, where: str) -> Any:
    """The type as OmegaConf reads it: `X | None` becomes Optional[X], and text stands for paths."""
    if get_origin(kind) in (UnionType, Union):
        members = [member for member in get_args(kind) if member is not NoneType]
        plain = {_readable(member, where) for member in members}
        if len(plain) != 1:
            raise ConfigError(f"{where} has the type {kind}; a setting has one type, or that or None")
        only = plain.pop()
        return only if len(members) == len(get_args(kind)) else Optional[only]  # noqa: UP045
    if get_origin(kind) in (list, tuple) or getattr(kind, "__name__", "") == "Sequence":
        return list[_readable(get_args(kind)[0], where)]  # type: ignore[misc]
    if kind in (int, float, bool, str):
        return kind
    if getattr(kind, "__name__", "") == "Path":
        return str
    raise ConfigError(
        f"{where} has the type {kind}; a setting is an int, float, bool or str, a list of these, or that or None"
    )


def _with_default(default: Any) -> Any:
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: list(default))
    return field(default=default)
