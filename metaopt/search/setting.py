"""What all searches of an evaluation share, and how they train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import torch

from metaopt.inner.draws import Draws, cast_draws, draw
from metaopt.inner.padding import fit_to_width
from metaopt.inner.trials import Configured
from metaopt.layout import Layout
from metaopt.models.model import Model
from metaopt.models.objective import Objective
from metaopt.policies.baselines import rule_of_numbers
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Initialise, Start
from metaopt.policies.settings import PolicySettings
from metaopt.search.space import Kind
from metaopt.trees import cast_tasks
from metaopt.types import CPU, Params, TaskBatch, TaskSpec

Changes: TypeAlias = "tuple[tuple[str, Any], ...]"
"""What a candidate changes in the model; see `variant`."""
ALL = "all"
"""Name of the vector in which all parameters of a conventional candidate lie."""


@dataclass(frozen=True)
class Setting:
    """What is trained, and from where.

    Attributes:
        model: the network, unless a candidate changes it.
        task: what it is for.
        objective: of a model.
        policy: what candidates of the kind "policy" multiply.
        fresh: conventional candidates start from torch's initialisation; else from the policy's.
        horizon: number of inner steps.
        batch_size: examples in a minibatch, unless a candidate says otherwise; None: the whole support set.
        folds: of cross-validation on the support set; None: candidates are chosen on the query set.
        seed: of draws beyond those of the comparison.
        chunk: trainings side by side.
        dtype, device: of everything.
    """

    model: Model
    task: TaskSpec
    objective: Callable[[Model], Objective]
    policy: Policy
    fresh: bool
    horizon: int
    batch_size: int | None
    folds: int | None = None
    seed: int = 0
    chunk: int = 64
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU


class Trainer(NamedTuple):
    """How candidates of a kind train, and what they are scored by."""

    configured: Configured
    objective: Objective


def trainer(setting: Setting, kind: Kind, model: Model) -> Trainer:
    """How candidates of a kind start and step.

    Conventional candidates do the same to all parameters, so that these lie in one vector: many small operations become
    few large ones.

    Args:
        setting: what is shared.
        kind: what the candidates' numbers mean.
        model: the network, changed or not.
    """
    objective = setting.objective(model)
    if kind == "policy":
        policy = setting.policy if model is setting.model else setting.policy.on(model)

        def multiplied(numbers: Params, noise: Params) -> Start:
            return policy(noise, values=policy.scaled(numbers))

        return Trainer(multiplied, objective)
    start = conventional_start(setting, model)
    layout = Layout(dict(model.shapes))

    def conventional(numbers: Params, noise: Params) -> Start:
        return Start({ALL: layout.pack(start(noise))}, rule_of_numbers(kind == "adam", numbers, (ALL,)))

    return Trainer(conventional, objective.of(lambda params: layout.unpack(params[ALL])))


def conventional_start(setting: Setting, model: Model) -> Initialise:
    """Where conventional candidates start: as the policy does, where it can on that model and is to be used."""
    if not setting.fresh and model is setting.model:
        return setting.policy.start
    if not setting.fresh and setting.policy.settings.fits_any_model():
        return setting.policy.on(model).start
    return Policy(PolicySettings(name="fresh"), model.shapes, model.init, 1).start


class Prepared(NamedTuple):
    """Tasks and the randomness of training on them, ready for training."""

    tasks: TaskBatch
    draws: Draws


def prepared(
    setting: Setting,
    model: Model,
    batch_size: int | None,
    tasks: TaskBatch,
    draws: Draws,
    names: Sequence[str],
    shared_order: bool = True,
    progressive: bool = False,
) -> Prepared:
    """Tasks and draws for candidates of one network and batch size.

    Args:
        setting: what is shared.
        model: the network, changed or not; with the comparison's own, training starts from the comparison's noise.
        batch_size: examples in a minibatch; None: the comparison's.
        tasks: with padding still marked, [tasks].
        draws: the comparison's.
        names: of the tasks. What is drawn anew depends on the setting's seed and the task's name, and on nothing else.
        shared_order: whether the comparison's minibatches are for these support sets.
        progressive: whether support examples join training one part after the other, as only a policy may want it.

    Returns:
        Both without padding, in the setting's dtype and on its device.
    """
    size = setting.batch_size if batch_size is None else batch_size
    n_support = tasks.support.x.shape[1]
    same_model, same_order = model is setting.model, shared_order and size == setting.batch_size
    same_order = same_order and progressive == setting.policy.progressive
    if not (same_model and same_order):
        shapes = {} if same_model else model.shapes
        seeds = [crc32(f"{setting.seed} {name}".encode()) for name in names]
        drawn = [
            draw(
                shapes,
                1,
                setting.horizon,
                size,
                n_support,
                torch.Generator().manual_seed(s),
                progressive=progressive,
            )
            for s in seeds
        ]
        orders = [one.order for one in drawn if one.order is not None]
        draws = Draws(
            draws.noise if same_model else {name: torch.cat([one.noise[name] for one in drawn]) for name in shapes},
            draws.order if same_order else torch.cat(orders) if orders else None,
            draws.loss,  # which depends on neither
        )
    if setting.task.padded and not model.masks:
        tasks, draws = fit_to_width(tasks, draws, model.input_layer)
    return Prepared(cast_tasks(tasks, setting.dtype, setting.device), cast_draws(draws, setting.dtype, setting.device))
