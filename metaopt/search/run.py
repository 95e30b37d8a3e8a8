"""Searches on all held-out tasks, in several processes, and what came of them as arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from metaopt.inner.draws import Draws, take_draws
from metaopt.search.records import WARM, SearchOutcome
from metaopt.search.rounds import Found, Plan, search_tasks
from metaopt.search.samplers import METHODS
from metaopt.search.setting import Setting
from metaopt.search.storage import opened
from metaopt.trees import count_tasks, take_tasks
from metaopt.types import TaskBatch

TASKS_TOGETHER = 32
"""Tasks of a process at a time: more train no faster side by side, and take more memory."""


def search(
    setting: Setting,
    plan: Plan,
    tasks: TaskBatch,
    draws: Draws,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[SearchOutcome]:
    """Searches on each task by itself, with each method.

    Args:
        setting: how candidates are trained.
        plan: what is searched.
        tasks: with padding still marked, [tasks].
        draws: the comparison's.
        workers: processes among which the tasks are divided; with 1 all is done in this one.
        progress: called with the number of trials that were finished since the last call.

    Returns:
        An outcome for each method, in the plan's order.
    """
    n = count_tasks(tasks)
    rounds = -(-n // (TASKS_TOGETHER * workers))
    size = -(-n // (rounds * workers))  # equal shares, so that no process waits for another
    groups = [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    parts = [(take_tasks(tasks, group), take_draws(draws, group), group.start) for group in groups]
    with opened(plan.storage):
        pass  # its tables are made by one process
    if workers == 1 or len(groups) == 1:
        found = [search_tasks(setting, plan, *part, progress) for part in parts]
    else:
        found = _in_processes(setting, plan, parts, workers, progress)
    return [_outcome(name, plan, [each for part in found for each in part[name]]) for name in plan.methods]


def _in_processes(
    setting: Setting,
    plan: Plan,
    parts: Sequence[tuple[TaskBatch, Draws, int]],
    workers: int,
    progress: Callable[[int], None],
) -> list[dict[str, list[Found]]]:
    from joblib import Parallel, delayed  # noqa: PLC0415

    with _counted(progress) as counter:
        calls = (delayed(_search_apart)(setting, plan, *part, counter, os.getpid()) for part in parts)
        found: Any = Parallel(n_jobs=workers, backend="loky")(calls)
        return list(found)


def _search_apart(
    setting: Setting, plan: Plan, tasks: TaskBatch, draws: Draws, first: int, counter: Path, parent: int
) -> dict[str, list[Found]]:
    """What a process of its own does; it adds a byte to a file for each trial, and ends with the process `parent`."""
    torch.set_num_threads(1)

    def tick(n: int) -> None:
        with counter.open("ab") as file:
            file.write(b"." * n)

    with _ending_with(parent):
        return search_tasks(setting, plan, tasks, draws, first, tick)


@contextmanager
def _ending_with(parent: int, every: float = 0.1) -> Iterator[None]:
    """Ends this process when `parent` was killed: else it would go on beside a search that is resumed."""
    over = Event()

    def end_if_alone() -> None:
        if os.getppid() != parent:
            os._exit(1)

    def watch() -> None:
        while not over.wait(every):
            end_if_alone()

    end_if_alone()  # where the parent was killed while this process was still being started
    thread = Thread(target=watch, name="metaopt-search-parent", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _counted(progress: Callable[[int], None], every: float = 0.5) -> Iterator[Path]:
    """A file whose bytes are reported as they come, from a thread that ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "finished"
        path.touch()
        over = Event()

        def watch() -> None:
            seen = 0
            while True:
                last = over.wait(every)
                size = path.stat().st_size
                if size > seen:
                    progress(size - seen)
                    seen = size
                if last:
                    return

        thread = Thread(target=watch, name="metaopt-search-progress", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join()


def _outcome(name: str, plan: Plan, found: Sequence[Found]) -> SearchOutcome:
    trials = plan.trials
    validation = np.array([[told.value for told in study.told[:trials]] for study in found])
    chosen = np.array([[int(row[: n + 1].argmin()) for n in range(trials)] for row in validation])
    loss, accuracy = (
        np.array(
            [[_number(getattr(study.told[i], key)) for i in row] for study, row in zip(found, chosen, strict=True)]
        )
        for key in ("test_loss", "test_accuracy")
    )
    method = name.removesuffix(WARM)
    return SearchOutcome(
        name=name,
        description=METHODS[method] + (", started from the policy" if name.endswith(WARM) else ""),
        validation=validation,
        chosen=chosen,
        loss=loss,
        accuracy=None if np.isnan(accuracy).any() else accuracy,
        diverged=np.array([[told.diverged for told in study.told[:trials]] for study in found]),
        settings=[study.records[:trials] for study in found],
        inner_steps=sum(told.steps for study in found for told in study.told[:trials]),
        seconds=sum(told.seconds for study in found for told in study.told[:trials]),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
