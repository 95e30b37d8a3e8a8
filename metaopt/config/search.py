"""What can be configured of a search, and the search that it makes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Optional

from metaopt.config.checks import at_least, one_of
from metaopt.errors import ConfigError
from metaopt.models.variant import check_variants
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy
from metaopt.search.mapping import policy_space
from metaopt.search.rounds import Plan
from metaopt.search.run import WARM
from metaopt.search.samplers import METHODS
from metaopt.search.setting import Setting
from metaopt.search.space import DIMENSIONS, ConventionalSpace, Space
from metaopt.search.storage import opened

USUAL = ("optimizer", "lr", "l2", "momentum", "schedule", "batch_size")
WARM_STARTS = (False, True, "both")


@dataclass
class SearchConfig:
    """Search on each held-out task, and the search behind the baseline `tuned`.

    Attributes:
        methods: ways to search on each held-out task by itself, of `METHODS`; none: no such search.
        trials: on each task. Behind `tuned` at most so many, and fewer where meta-training spent fewer inner steps.
        tasks_per_trial: behind `tuned`: meta-train tasks on which each setting is tried.
        space: what is searched on each task, of `DIMENSIONS`.
        validation: what chooses among trials: `holdout`, the query set; or `kfold`, cross-validation on the support
            set.
        folds: of cross-validation.
        warm_start: false: searches know nothing; true: they start from the policy, in a narrow space around it; both:
            each method is run both ways.
        storage: URL of an Optuna storage, in which a search that was stopped is found again; null: in memory.
        workers: processes; null: one per core.
    """

    methods: list[str] = field(default_factory=list)
    trials: int = 100
    tasks_per_trial: int = 64
    space: list[str] = field(default_factory=lambda: list(USUAL))
    validation: str = "holdout"
    folds: int = 5
    warm_start: Any = False
    storage: Optional[str] = None  # noqa: UP045
    workers: Optional[int] = None  # noqa: UP045

    def __post_init__(self) -> None:
        for name in self.methods:
            one_of("search.methods", name, tuple(METHODS))
        for name in self.space:
            one_of("search.space", name, DIMENSIONS)
        for listed in ("methods", "space"):
            names = getattr(self, listed)
            if len(set(names)) < len(names):
                raise ConfigError(f"search.{listed} is {names}; name each once")
        if not self.space:
            raise ConfigError(f"search.space is empty; choose from {', '.join(DIMENSIONS)}")
        at_least("search.trials", self.trials, 1)
        at_least("search.tasks_per_trial", self.tasks_per_trial, 1)
        one_of("search.validation", self.validation, ("holdout", "kfold"))
        at_least("search.folds", self.folds, 2)
        if self.warm_start not in WARM_STARTS or (self.warm_start in (0, 1) and not isinstance(self.warm_start, bool)):
            raise ConfigError(f"search.warm_start is {self.warm_start!r}; choose one of false, true, both")
        at_least("search.workers", self.workers, 1)

    @property
    def processes(self) -> int:
        """`workers`, or the number of cores that this process may use."""
        if self.workers is not None:
            return self.workers
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def build_search(
    config: SearchConfig,
    problem: InnerProblem,
    policy: Policy,
    objective: partial[Any],
    fresh: bool,
    seed: int,
    n_support: int,
) -> BuiltSearch:
    """The search on the tasks of a problem.

    Args:
        config: what is asked for.
        problem: what is trained.
        policy: where a warm start is.
        objective: of a model.
        fresh: conventional settings start from torch's initialisation.
        seed: of samplers and draws.
        n_support: examples in a support set.

    Raises:
        ConfigError: the parts do not go together, or the storage cannot be opened.
    """
    check_variants(problem.model, tuple(config.space))
    if config.validation == "kfold" and n_support < config.folds:
        raise ConfigError(
            f"search.folds is {config.folds}, but a support set has {n_support} examples; "
            f"use {n_support} folds or fewer"
        )
    _check_storage(config.storage)
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
        objective=objective,
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


def _check_storage(url: str | None) -> None:
    if url is None:
        return
    try:
        with opened(url):
            pass
    except Exception as error:  # whatever the database says
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"search.storage is {url!r}, which cannot be opened ({reason}); give a URL such as sqlite:///search.db"
        ) from error
