"""A policy file on a model: by name and shape, else by role, and never in silence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaopt.errors import ConfigError, PolicyFileError
from metaopt.models.model import Model
from metaopt.models.roles import POSITIONS, ROLES
from metaopt.policies.file import PolicyCard
from metaopt.policies.policy import Policy
from metaopt.policies.strict_json import one_line
from metaopt.policies.tables import encode

MANY = 4
"""Tensors that a note names; of more it says the number."""
LISTED = 8
"""Tensors that an error names; of more it says how many there are besides."""
MOST_FACTORS = 2**25
"""Numbers that interpolating schedules may take when the policy is used: steps times factors times schedules."""


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
    policy's tensors of that role and their entries. Scale and shift of a normalisation, where the policy has met none,
    are taken for biases of the layer before. Three things belong to one model and fit no other: a learned
    initialisation, matrices for the gradients, and any other role that the policy has never met.

    The policy's parameters are copies of the file's, of their type, on the CPU. Before they are made, the names and
    shapes that the file has are compared with those that its settings and the model ask for, so that no memory is taken
    for what settings of any origin ask for and the file does not have.

    Args:
        tensors: of the file.
        card: of the file.
        model: what is to be trained.
        path: the file, for errors.
        horizon: number of steps of the trainings at hand; None: those that the policy was trained for.

    Raises:
        PolicyFileError: the policy does not fit, with the names of the tensors that it has nothing for and their roles,
            or its tensors are not those that its settings ask for. No other error is raised, whatever the file holds.
    """
    _check_numbers(tensors, path)
    known = _known_roles(tensors, card)
    needed = card.policy.tells_steps_apart()  # one number for all serves tensors of any role
    model, as_biases = _with_met_roles(model, {*known, *card.roles.values()}) if needed else (model, ())
    try:
        with torch.device("meta"):
            policy = Policy(card.policy, model.shapes, model.init, card.horizon, roles=model.roles, known_roles=known)
    except ConfigError as error:
        raise PolicyFileError(f"the policy in {path} does not fit {_words(model.spec)}: {one_line(error)}") from error
    policy.span, policy.mixed = horizon or card.horizon, card.mixed
    _check_schedule(policy, path)
    shapes = {name: tuple(shape) for name, shape in model.shapes.items()}
    if card.parameters == shapes:
        _give(policy, tensors, path)
        return Fit(policy)
    if card.policy.init.mode == "learned" or card.policy.preconditioner == "curvature":
        what = "where training starts" if card.policy.init.mode == "learned" else "matrices for the gradients"
        raise PolicyFileError(
            f"the policy in {path} learned {what}, which fits its own model only: "
            f"{_differences(shapes, card.parameters)}; {_both(card, model)}: give the same model= and tasks= sizes"
        )
    foreign = [name for name, shape in shapes.items() if card.parameters.get(name) != shape]
    _give(policy, _matched(policy, tensors, card, model, foreign, path), path)
    return Fit(policy, _note(card, model, foreign, as_biases))


def _known_roles(tensors: Mapping[str, Tensor], card: PolicyCard) -> list[str]:
    """The roles that a file has values for, in tables that are by role."""
    settings = card.policy
    granularities = {f"log_strengths.{name}": getattr(settings, name).granularity for name in ("lr", "l2", "pull")}
    granularities |= {
        "log_strengths.init_std": settings.init.granularity,
        "log_schedule": settings.schedule_granularity(),
    }
    granularities |= {"log_strengths.dropout": settings.dropout.granularity}
    by_role = [table for table, granularity in granularities.items() if granularity == "role"]
    return [role for role in ROLES if any(f"{table}.{encode(role)}" in tensors for table in by_role)]


def _with_met_roles(model: Model, met: Collection[str]) -> tuple[Model, tuple[str, ...]]:
    """The model, in which normalisations of a role that was never met are of the nearest role that was.

    A policy that was learned without normalisation would fit hardly any network of today. Its biases are what scale and
    shift are most alike: one number for each unit, neither of which a matrix multiplies.

    Returns:
        The model, and the tensors that are biases to the policy now.
    """
    roles = dict(model.roles)
    for name, role in model.roles.items():
        position, _, part = role.partition(".")
        if part != "norm" or role in met:
            continue
        near = sorted(POSITIONS, key=lambda other, at=position: abs(POSITIONS.index(other) - POSITIONS.index(at)))
        for candidate in (f"{other}.{kind}" for kind in ("norm", "bias") for other in near):
            if candidate in met:
                roles[name] = candidate
                break
    changed = tuple(name for name, role in roles.items() if role != model.roles[name])
    return (replace(model, roles=roles), changed) if changed else (model, ())


def _matched(
    policy: Policy, tensors: Mapping[str, Tensor], card: PolicyCard, model: Model, foreign: list[str], path: Path
) -> dict[str, Tensor]:
    """Tensors for a policy's parameters: those of the file, but for foreign tensors of the model those of their roles.

    Raises:
        PolicyFileError: for some of the model's tensors there are none, with the names of all of these.
    """
    roles = {encode(name): model.roles.get(name, "") for name in foreign}
    found: dict[str, Tensor] = {}
    unknown: set[str] = set()
    for name, parameter in policy.named_parameters():
        table, _, key = name.rpartition(".")
        quantity = "schedule" if table == "log_schedule" else table.rpartition(".")[2]
        by_tensor = table.startswith("log_") and policy.granularity(quantity) in ("tensor", "element")
        own = key not in roles or not by_tensor
        values = tensors.get(name) if own else _of_role(tensors, card, table, roles[key], parameter.shape)
        if values is not None:
            found[name] = values
        else:  # what is for no tensor and no role is missing in a damaged file only, and is found missing later
            unknown |= {other for other in model.shapes if key in (encode(other), encode(model.roles.get(other, "")))}
    if unknown:
        named = [f"'{name}' (role {model.roles.get(name, 'unknown')})" for name in model.shapes if name in unknown]
        raise PolicyFileError(
            f"the policy in {path} was made for another model and has nothing for {_listed(named)}; "
            f"{_both(card, model)}: give a model with the same kinds of layers"
        )
    return found


def _of_role(
    tensors: Mapping[str, Tensor], card: PolicyCard, table: str, role: str, shape: torch.Size
) -> Tensor | None:
    """The mean of a table's logarithms over the policy's tensors of a role, [*shape]; None where there are none."""
    keys = [f"{table}.{encode(name)}" for name, its_role in card.roles.items() if its_role == role]
    found = [tensors[key] for key in keys if key in tensors]
    if not found:
        return None
    if table != "log_schedule":
        return torch.stack([values.mean() for values in found]).mean(0).expand(shape)
    # A schedule's steps stay apart. One of another length is damage; handed on, it is found to be of the wrong shape.
    other = [values for values in found if values.shape != shape]
    return other[0] if other else torch.stack(found).mean(0)


def _note(card: PolicyCard, model: Model, foreign: list[str], as_biases: Sequence[str]) -> str:
    if card.policy.fits_any_model():
        how = "; what it learned for roles or for all tensors serves"
    elif len(foreign) <= MANY:
        how = f"; matched by role, with the mean over the tensors of that role: {', '.join(foreign)}"
    else:
        how = f"; {len(foreign)} of {len(model.shapes)} tensors are matched by role, with the mean over its tensors"
    if as_biases:
        how += f"; it has met no such normalisation, whose scales and shifts are stepped as biases: {_few(as_biases)}"
    return _both(card, model) + how


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


def _both(card: PolicyCard, model: Model) -> str:
    return f"the policy was meta-trained on {_words(card.model)} and meets {_words(model.spec)} with other tensors"


def _check_numbers(tensors: Mapping[str, Tensor], path: Path) -> None:
    types = {tensor.dtype for tensor in tensors.values()}
    known = len(types) <= 1 and types <= {torch.float32, torch.float64}
    if not known or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise PolicyFileError(
            f"{path} is damaged: it holds values that are no finite floats of one type; train the policy again"
        )


def _check_schedule(policy: Policy, path: Path) -> None:
    knots = policy.settings.schedule_knots
    if policy.settings.schedule == "off" or knots is None:
        return
    numbers = policy.horizon * knots * len(policy.log_schedule)
    if numbers > MOST_FACTORS:
        raise PolicyFileError(
            f"the policy in {path} has schedules of {knots} factors for {policy.horizon} steps, {numbers} numbers for "
            f"{len(policy.log_schedule)} of them; at most {MOST_FACTORS} are made: train one with fewer schedule_knots"
        )


def _give(policy: Policy, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Gives a policy, which has no numbers yet, copies of tensors."""
    expected = {name: tuple(parameter.shape) for name, parameter in policy.named_parameters()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        raise PolicyFileError(f"{path} is damaged: {_differences(expected, found)}; train the policy again")
    own = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    _check_numbers(own, path)  # a mean of finite numbers may be none
    policy.load_state_dict(own, assign=True)


def _differences(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    different = []
    for name in dict.fromkeys([*expected, *found]):
        if expected.get(name) != found.get(name):
            here = f"of shape {expected[name]}" if name in expected else "absent"
            there = f"of shape {found[name]}" if name in found else "absent"
            different.append(f"'{one_line(name, 100)}' should be {here} but is {one_line(there, 100)} in the file")
    return f"tensor {_listed(different)}"


def _listed(words: list[str]) -> str:
    """All of a few, and of many the first, with how many there are besides."""
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return ", ".join(words[:LISTED]) + more


def _words(spec: dict[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in sorted(spec.items()) if key != "name")
    return one_line(f"{spec.get('name', 'a model')}({settings})")
