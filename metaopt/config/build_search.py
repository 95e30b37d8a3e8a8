"""From the settings of a search to the search."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import NamedTuple

import torch

from metaopt.config.engine import build_objective
from metaopt.config.search import SearchConfig
from metaopt.errors import ConfigError
from metaopt.models.variant import check_variants
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.search.folds import check_folds
from metaopt.search.mapping import check_multiplied, policy_space
from metaopt.search.records import WARM
from metaopt.search.rounds import Plan
from metaopt.search.setting import Setting
from metaopt.search.space import ConventionalSpace, Space
from metaopt.search.storage import opened


class BuiltSearch(NamedTuple):
    """A search, ready to start.

    Attributes:
        setting: how candidates are trained.
        plan: what is searched.
        mapping: what became of each dimension in the space around the policy, for people; empty without one.
    """

    setting: Setting
    plan: Plan
    mapping: dict[str, str]


def check_search(
    config: SearchConfig,
    problem: InnerProblem,
    settings: PolicySettings,
    batch_statistics: str,
    fallback: bool = False,
) -> None:
    """Makes sure, before any work, that a search can be made, and a fallback where one is asked for.

    Raises:
        ConfigError: what is asked for does not go together, or the storage cannot be opened.
    """
    if config.validation == "kfold":
        task = problem.family.sample("meta_test", 1, torch.Generator().manual_seed(0))
        check_folds(config.folds, task.support.x.shape[1])
    if fallback and settings.optimizer != "metaopt":
        raise ConfigError(
            f"evaluate.fallback is true, but the policy runs torch's {settings.optimizer}, which does not train "
            "side by side with another; leave it out"
        )
    if (config.methods or fallback) and problem.inductive is not None and batch_statistics == "inductive":
        raise ConfigError(
            "batch_statistics is inductive, but searches and the fallback predict by the statistics of the test set; "
            "use batch_statistics=both or transductive"
        )
    if not config.methods:
        return
    check_variants(problem.model, tuple(config.space))
    if config.warm_start is not False:
        check_multiplied(settings)
    if config.storage is not None:
        _check_storage(config.storage)


def build_search(
    config: SearchConfig,
    problem: InnerProblem,
    policy: Policy,
    dtype: str,
    fresh: bool,
    seed: int,
    n_support: int,
) -> BuiltSearch:
    """The search on the tasks of a problem; see `check_search`.

    Args:
        config: what is asked for.
        problem: what is trained.
        policy: where a warm start is.
        dtype: of the model's own passes, as in `InnerConfig`.
        fresh: conventional settings start from torch's initialisation.
        seed: of samplers and draws.
        n_support: examples in a support set.
    """
    cold: Space = ConventionalSpace(tuple(config.space), n_support)
    warm, mapping = None, {}
    if config.warm_start is not False:
        warm, mapping = policy_space(policy, config.space, n_support, problem.batch_size, problem.model.spec)
    methods: dict[str, tuple[str, Space]] = {}
    for name in config.methods:
        if config.warm_start is not True:
            methods[name] = (name, cold)
        if warm is not None:
            methods[f"{name}{WARM}"] = (name, warm)
    setting = Setting(
        model=problem.model,
        task=problem.family.spec,
        objective=partial(build_objective, task=problem.family.spec, dtype=dtype),
        policy=policy,
        fresh=fresh,
        horizon=problem.horizon,
        batch_size=problem.batch_size,
        folds=config.folds if config.validation == "kfold" else None,
        seed=seed,
        chunk=problem.chunk,
        dtype=problem.dtype,
        device=problem.device,
    )
    known = _digest(problem, policy, setting)
    return BuiltSearch(setting, Plan(methods, config.trials, config.storage, f"{problem.family.name} {known}"), mapping)


def _digest(problem: InnerProblem, policy: Policy, setting: Setting) -> str:
    """Changes with whatever changes the trials of a study, besides its space and its task."""
    facts = {
        "split_hash": problem.family.split_hash,
        "model": problem.model.spec,
        "shapes": {name: list(shape) for name, shape in problem.model.shapes.items()},
        "setting": [
            setting.horizon,
            setting.batch_size,
            setting.folds,
            setting.seed,
            setting.fresh,
            str(setting.dtype),
        ],
        "policy": [policy.settings.to_json(), {n: p.tolist() for n, p in policy.state_dict().items()}],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _check_storage(url: str) -> None:
    try:
        with opened(url):
            pass
    except Exception as error:  # whatever the database says
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"search.storage is {url!r}, which cannot be opened ({reason}); give a URL such as sqlite:///search.db"
        ) from error
