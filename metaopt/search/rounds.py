"""Searches on many tasks in step: in each round all studies propose a trial, and all trials train side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import torch

from metaopt.inner.draws import Draws, take_draws
from metaopt.search.bench import Bench, Request
from metaopt.search.samplers import quiet_optuna
from metaopt.search.setting import Setting
from metaopt.search.space import Space
from metaopt.search.storage import opened
from metaopt.search.study import TaskStudy, Told
from metaopt.trees import count_tasks, take_tasks
from metaopt.types import TaskBatch

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Plan:
    """What to search, and how often.

    Attributes:
        methods: by name in the record: one of `METHODS`, and the space that it searches.
        trials: on each task.
        storage: URL of Optuna's storage; None: in memory.
        name: what the names of all studies begin with; it changes with whatever changes what a trial is worth, unless
            that is the space or the task.
    """

    methods: Mapping[str, tuple[str, Space]]
    trials: int
    storage: str | None
    name: str


class Found(NamedTuple):
    """One study when it is over.

    Attributes:
        told: what its trials are worth.
        records: the trials' settings, for people.
    """

    told: list[Told]
    records: list[dict[str, Any]]


def search_tasks(
    setting: Setting,
    plan: Plan,
    tasks: TaskBatch,
    draws: Draws,
    first: int = 0,
    tick: Callable[[int], None] = lambda _: None,
) -> dict[str, list[Found]]:
    """Searches on each of some tasks with each method.

    Args:
        setting: how candidates are trained.
        plan: what is searched.
        tasks: with padding still marked.
        draws: the comparison's, for these tasks.
        first: index of the first of the tasks among all tasks of the search.
        tick: called with the number of trials that were finished since the last call.

    Returns:
        By method, what was found on each task.
    """
    with quiet_optuna(), opened(plan.storage) as storage:
        prints = [fingerprint(take_tasks(tasks, i), take_draws(draws, i)) for i in range(count_tasks(tasks))]
        studies = {
            name: [
                TaskStudy(
                    _study_name(plan, name, f"{first + i} {print_}"),
                    method,
                    space,
                    plan.trials,
                    crc32(f"{setting.seed} {name} {first + i}".encode()),
                    storage,
                )
                for i, print_ in enumerate(prints)
            ]
            for name, (method, space) in plan.methods.items()
        }
        tick(sum(len(study.told()) for of_method in studies.values() for study in of_method))
        bench = Bench(setting, tasks, draws, first)
        everyone = [
            (plan.methods[name][1], i, s) for name, of_method in studies.items() for i, s in enumerate(of_method)
        ]
        while n := _round(bench, everyone, setting.horizon):
            tick(n)
        return {
            name: [Found(s.told(), [plan.methods[name][1].record(p) for p in s.points()]) for s in of_method]
            for name, of_method in studies.items()
        }


def _round(bench: Bench, studies: Sequence[tuple[Space, int, TaskStudy]], horizon: int) -> int:
    """One more trial of every study that has not had all of its own; how many that were."""
    asked: list[tuple[TaskStudy, Request, float]] = []
    for space, task, study in studies:
        began = time.perf_counter()
        point = study.ask()
        if point is not None:
            request = Request(task, space.candidate(point, horizon))
            asked.append((study, request, time.perf_counter() - began))
    results = bench.run([request for _, request, _ in asked], lambda i, value: asked[i][0].improves(value))
    for (study, _, seconds), result in zip(asked, results, strict=True):
        loss, accuracy = result.test or (None, None)
        known = None if accuracy is None or math.isnan(accuracy) else accuracy
        study.tell(Told(result.value, result.diverged, loss, known, result.steps, seconds + result.seconds))
    return len(asked)


def _study_name(plan: Plan, name: str, task: str) -> str:
    """A grid is another one where it has more trials; other studies go on with more."""
    method, space = plan.methods[name]
    searched = crc32(repr((dict(space.distributions), space.first)).encode())
    return f"{plan.name} {name}{f' of {plan.trials}' if method == 'grid' else ''} {searched:08x} {task}"


def fingerprint(task: TaskBatch, draws: Draws) -> str:
    """Tells one task, and its draws, from others, so that no study goes on with the trials of another task.

    Args:
        task: one task, without the leading dimension.
        draws: likewise.

    Returns:
        Eight digits, made of a few digits of sums: machines that round differently agree.
    """
    tensors = [tensor for batch in task for tensor in batch] + list(draws.noise.values())
    tensors += [tensor for tensor in (draws.order, *draws.loss) if tensor is not None]
    facts = []
    for tensor in tensors:
        flat = tensor.cpu().double().nan_to_num().flatten()
        weights = 1 + torch.arange(len(flat), dtype=torch.float64) * GOLDEN % 1  # so that their order matters
        facts.append((tuple(tensor.shape), f"{float(flat @ weights):.5g}"))
    return f"{crc32(repr(facts).encode()):08x}"
