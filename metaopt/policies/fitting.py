"""A policy file on a model: by name and shape, else by role, and never in silence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaopt.errors import PolicyFileError
from metaopt.models.model import Model
from metaopt.models.roles import ROLES
from metaopt.policies.file import PolicyCard
from metaopt.policies.policy import Policy
from metaopt.policies.tables import encode

MANY = 4
"""Tensors that a note names; of more it says the number."""


class Fit(NamedTuple):
    """A policy on a model.

    Attributes:
        policy: the policy.
        note: what a reader must know of it, in a sentence; empty where all was matched by name and shape.
    """

    policy: Policy
    note: str = ""


def fit_policy(
    tensors: Mapping[str, Tensor], card: PolicyCard, model: Model, path: Path, horizon: int | None = None
) -> Fit:
    """The policy of a file, for `model`.

    A parameter tensor that the policy's own model has too, by the same name and in the same shape, gets its values. Any
    other gets those of its role: where the policy has a value for each role, that one, else the geometric mean over the
    policy's tensors of that role and their entries. Three things belong to one model and fit no other: a learned
    initialisation, matrices for the gradients, and a role that the policy has never met.

    Args:
        tensors: of the file.
        card: of the file.
        model: what is to be trained.
        path: the file, for errors.
        horizon: number of steps of the trainings at hand; None: those that the policy was trained for.

    Raises:
        PolicyFileError: the policy does not fit, naming the first thing that is missing, or its tensors are not those
            that its settings ask for.
    """
    _check_numbers(tensors, path)
    known = [role for role in ROLES if any(name.rpartition(".")[2] == encode(role) for name in tensors)]
    policy = Policy(card.policy, model.shapes, model.init, card.horizon, roles=model.roles, known_roles=known)
    policy.span, policy.mixed = horizon or card.horizon, card.mixed
    shapes = {name: tuple(shape) for name, shape in model.shapes.items()}
    if card.parameters == shapes:
        _load(policy, tensors, path)
        return Fit(policy)
    if card.policy.init.mode == "learned" or card.policy.preconditioner == "curvature":
        what = "where training starts" if card.policy.init.mode == "learned" else "matrices for the gradients"
        raise PolicyFileError(
            f"the policy in {path} learned {what}, which fits its own model only: "
            f"{_first_difference(shapes, card.parameters)}; {_both(card, model)}: give the same model= and tasks= sizes"
        )
    foreign = [name for name, shape in shapes.items() if card.parameters.get(name) != shape]
    by_role = {encode(name): model.roles.get(name, "") for name in foreign}
    fitted = {}
    for name, parameter in policy.named_parameters():
        table, _, key = name.rpartition(".")
        values = _of_role(tensors, card, table, by_role[key]) if key in by_role else tensors.get(name)
        if values is None:
            what = f"'{key.replace('/', '.')}'" + (f", in the role {by_role[key]}" if by_role.get(key) else "")
            raise PolicyFileError(
                f"the policy in {path} was made for another model and has nothing for {what}; {_both(card, model)}: "
                "give a model with the same kinds of layers"
            )
        fitted[name] = values.expand(parameter.shape) if key in by_role else values
    _load(policy, fitted, path)
    return Fit(policy, _note(card, model, foreign))


def _of_role(tensors: Mapping[str, Tensor], card: PolicyCard, table: str, role: str) -> Tensor | None:
    """The mean of the logarithms of a table over the policy's tensors of a role; None where there are none."""
    keys = [f"{table}.{encode(name)}" for name, its_role in card.roles.items() if its_role == role]
    found = [tensors[key] for key in keys if key in tensors]
    if not found:
        return None
    # A schedule's steps stay apart.
    return torch.stack([values if table == "log_schedule" else values.mean() for values in found]).mean(0)


def _note(card: PolicyCard, model: Model, foreign: list[str]) -> str:
    if card.policy.fits_any_model():
        how = "; what it learned for roles or for all tensors serves"
    elif len(foreign) <= MANY:
        how = f"; matched by role, with the mean over the tensors of that role: {', '.join(foreign)}"
    else:
        how = f"; {len(foreign)} of {len(model.shapes)} tensors are matched by role, with the mean over its tensors"
    return _both(card, model) + how


def _both(card: PolicyCard, model: Model) -> str:
    return f"the policy was meta-trained on {_words(card.model)} and meets {_words(model.spec)} with other tensors"


def _check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    floating = all(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors.values())
    if not floating or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise PolicyFileError(f"{path} is damaged: it holds values that are no finite floats; train the policy again")


def _load(policy: Policy, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(parameter.shape) for name, parameter in policy.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise PolicyFileError(f"{path} is damaged: {_first_difference(expected, found)}; train the policy again")
    policy.load_state_dict(dict(tensors))


def _first_difference(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            here = f"of shape {expected[name]}" if name in expected else "absent"
            there = f"of shape {found[name]}" if name in found else "absent"
            return f"tensor '{name}' should be {here} but is {there} in the file"
    return "the tensors agree"


def _words(spec: dict[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in sorted(spec.items()) if key != "name")
    return f"{spec.get('name', 'a model')}({settings})"
