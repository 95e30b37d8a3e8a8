"""Families by name: those that come with metaopt, and those that are registered beside them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from metaopt.errors import ConfigError
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.images.digits import Digits
from metaopt.tasks.images.image import Images
from metaopt.tasks.images.omniglot import Omniglot
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.tasks.tables.folder import Folder
from metaopt.tasks.tables.tabular import Tabular

FamilyClass: TypeAlias = Callable[..., TaskFamily]
"""A class whose constructor's keyword parameters, each with a type and a default, are the settings of `tasks=`."""

F = TypeVar("F", bound=FamilyClass)

FAMILIES: dict[str, FamilyClass] = {
    "digits": Digits,
    "folder": Folder,
    "image": Images,
    "omniglot": Omniglot,
    "sinusoid": Sinusoid,
    "tabular": Tabular,
}

BUILT_IN = tuple(FAMILIES.values())


def register(name: str) -> Callable[[F], F]:
    """A class decorator that makes a family known as `tasks=NAME`.

    Each of the constructor's parameters becomes a setting `tasks.PARAMETER` with the same type and default: int, float,
    bool, str, a list of these, or one of these or None.

    A class that is defined again in the same place under the same name takes the place of the former: a notebook's
    cell can be run again, and a module reloaded.

    Args:
        name: a word of letters, digits and underscores that no other family has.

    Raises:
        ConfigError: the name is no such word or is taken, or a parameter has no type or no default.
    """

    def registered(family: F) -> F:
        if not name.isidentifier() or not _is_again(family, FAMILIES.get(name, family)):
            known = ", ".join(sorted(FAMILIES))
            raise ConfigError(f"a family is registered as {name!r}; choose a word that is not among {known}")
        parameters_of(family)
        FAMILIES[name] = family
        return family

    return registered


def _is_again(family: FamilyClass, former: FamilyClass) -> bool:
    """Whether a family is the former one, or what came of running its definition again."""
    if family is former:
        return True
    place, before = ((each.__module__, getattr(each, "__qualname__", None)) for each in (family, former))
    return place == before and None not in place and former not in BUILT_IN


def parameters_of(family: FamilyClass) -> dict[str, tuple[Any, Any]]:
    """Type and default of each of the constructor's parameters.

    Raises:
        ConfigError: one has no type or no default.
    """
    try:
        signature = inspect.signature(family, eval_str=True)
    except NameError as error:
        raise ConfigError(f"{family.__name__}.__init__ has a type that cannot be read: {error}") from error
    found = {}
    for name, parameter in signature.parameters.items():
        if parameter.annotation is parameter.empty or parameter.default is parameter.empty:
            raise ConfigError(
                f"{family.__name__}.__init__: parameter '{name}' needs a type and a default to be a setting; "
                f"write {name}: int = 5, say"
            )
        found[name] = (parameter.annotation, parameter.default)
    return found
