"""What can be configured of a search."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Optional

from metaopt.config.checks import at_least, one_of
from metaopt.errors import ConfigError
from metaopt.search.samplers import METHODS
from metaopt.search.space import DIMENSIONS

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
