"""Trains every method on the same tasks, with the same noise and the same minibatches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from metaopt.errors import ConfigError
from metaopt.evaluation.divergence import Scored, score_untrained
from metaopt.evaluation.records import BatchStatistics, Comparison, MethodOutcome
from metaopt.inner.adapt import Adaptation, adapt
from metaopt.inner.draws import Draws
from metaopt.models.objective import Inductive, Objective
from metaopt.policies.rule import Learner
from metaopt.trees import count_tasks
from metaopt.types import Kind, Split, TaskBatch

CURVE_POINTS = 26
STATISTICS_NOTES: dict[BatchStatistics, str] = {
    "transductive": "batch normalisation by the statistics of the test set: a prediction sees all test inputs",
    "inductive": "batch normalisation by the statistics of the support set: a prediction sees no other test input",
}

Progress: TypeAlias = Callable[[str, int], None]
"""(method's name, number of tasks that it has finished since the last call)."""


@dataclass(frozen=True)
class Method:
    """A contender.

    Attributes:
        name: key in the record; the policy's is "policy".
        description: what it is, for people: "SGD, lr 0.1".
        learner: what trains on a task.
        trials: settings tried by the search that found it; None without search.
        search_seconds: wall time of that search.
        search_steps: inner steps of that search.
        settings: its hyperparameters, JSON-serialisable, for the record.
        draws: the randomness of its training; None: the comparison's.
    """

    name: str
    description: str
    learner: Learner
    trials: int | None = None
    search_seconds: float = 0.0
    search_steps: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    draws: Draws | None = None


def compare(
    methods: Sequence[Method],
    objective: Objective,
    tasks: TaskBatch,
    draws: Draws,
    horizon: int,
    *,
    family_name: str,
    kind: Kind,
    split: Split,
    split_hash: str,
    seed: int,
    notes: Sequence[str] = (),
    members: Sequence[str] = (),
    unit: str = "task",
    chunk: int = 64,
    progress: Progress | None = None,
    statistics: Sequence[BatchStatistics | None] = (None,),
    inductive: Inductive | None = None,
) -> list[Comparison]:
    """Every method on every task, measured on the test sets.

    Args:
        methods: the policy first, then its rivals.
        objective: loss to train with, and scores to report.
        tasks: held-out tasks; two or more, or the intervals say nothing.
        draws: noise and minibatch orders of these tasks, shared by all methods that have none of their own.
        horizon: number of inner steps.
        family_name: name of the task family, for the record.
        kind: classification, or regression, which has no accuracy.
        split: where the tasks come from, for the record.
        split_hash: hash of the family's splits, for the record.
        seed: seed of the tasks and draws, for the record.
        notes: what a reader of the result must know.
        members, unit: see `Comparison`.
        chunk: tasks that are trained side by side; see `adapt`.
        progress: told which method finished how many tasks more.
        statistics: how to predict the test sets, one way or both; None for a model without batch statistics.
        inductive: scores by the batch statistics of other inputs; needed where `statistics` holds "inductive".

    Returns:
        A comparison for each of `statistics`, from the same training. Its outcomes are in the order of `methods`.

    Raises:
        ConfigError: the first method is not "policy", or two methods have the same name.
        DataError: a method has no finite loss on any task before training.
    """
    _check_names([method.name for method in methods])
    steps = curve_steps(horizon)

    def outcomes(method: Method) -> list[MethodOutcome]:
        """One for each of `statistics`."""
        began = time.perf_counter()
        found = adapt(
            method.learner,
            objective,
            tasks,
            draws if method.draws is None else method.draws,
            horizon,
            on="test",
            record=steps.tolist(),
            chunk=chunk,
            progress=None if progress is None else partial(progress, method.name),
            inductive=inductive if "inductive" in statistics else None,
        )
        scored = [_scored(found, way) for way in statistics]
        seconds = time.perf_counter() - began
        return [_outcome(method, each, kind, seconds, count_tasks(tasks) * horizon) for each in scored]

    trained = {method.name: outcomes(method) for method in methods}
    return [
        Comparison(
            tasks=family_name,
            kind=kind.value,
            split=split,
            split_hash=split_hash,
            n_tasks=count_tasks(tasks),
            horizon=horizon,
            seed=seed,
            curve_steps=steps,
            methods={name: each[i] for name, each in trained.items()},
            notes=(*notes, *([STATISTICS_NOTES[way]] if way else [])),
            members=tuple(members),
            unit=unit,
            batch_statistics=way,
        )
        for i, way in enumerate(statistics)
    ]


def _scored(found: Adaptation, way: BatchStatistics | None) -> Scored:
    if way == "inductive":
        assert found.inductive is not None, "statistics holds 'inductive': give compare the inductive scores"
        found = found.inductive
    return score_untrained(found.loss.double().cpu().numpy(), found.accuracy.double().cpu().numpy())


def _outcome(method: Method, scored: Scored, kind: Kind, seconds: float, inner_steps: int) -> MethodOutcome:
    return MethodOutcome(
        name=method.name,
        description=method.description,
        loss=scored.loss[:, -1],
        accuracy=None if kind is Kind.regression else scored.accuracy[:, -1],
        curve=scored.loss,
        diverged=scored.diverged,
        seconds=seconds + method.search_seconds,
        inner_steps=inner_steps + method.search_steps,
        trials=method.trials,
        settings=method.settings,
    )


def curve_steps(horizon: int) -> np.ndarray:
    """The steps after which the test loss is recorded: all of a short horizon, 26 evenly spaced ones of a long one.

    Args:
        horizon: number of inner steps.

    Returns:
        Increasing whole numbers from 0 to `horizon`, [points].
    """
    return np.unique(np.linspace(0, horizon, min(horizon + 1, CURVE_POINTS)).round().astype(np.int64))


def _check_names(names: list[str]) -> None:
    if names[:1] != ["policy"]:
        raise ConfigError(f"expected the first method to be 'policy', got {names}: put the policy before its rivals")
    if len(set(names)) < len(names):
        raise ConfigError(f"expected every method once, got {names}: remove the repeated ones")
