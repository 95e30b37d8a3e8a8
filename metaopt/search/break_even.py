"""After how many tasks meta-training has paid for itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metaopt.evaluation.records import MethodOutcome
from metaopt.search.records import Cost, SearchOutcome


class BreakEven(NamedTuple):
    """Number of tasks by which meta-training has paid for itself.

    Attributes:
        inner_steps: counted in inner steps; None: never.
        seconds: counted in seconds; None: never, or meta-training's seconds are not known.
    """

    inner_steps: float | None
    seconds: float | None


def break_even(search: SearchOutcome, policy: MethodOutcome, meta_training: Cost, match: np.ndarray) -> BreakEven:
    """What meta-training spent, divided by what the policy saves on one task beside a search.

    On one task a search spends its trials until it matches the policy: their mean over units, times what a trial costs.
    Where it never matches it spends all of its trials, which counts too little, to the policy's disadvantage.

    The policy spends its own training on the task, as a search's first trial does; so a search that always matches at
    once leaves nothing to save. Seconds of that training are counted at the search's seconds per inner step: those that
    were measured for the policy hold fixed costs, such as compiling, that are not paid again for each task.

    Args:
        search: what the search spent.
        policy: what the policy spent on the same tasks, meta-training apart.
        meta_training: what meta-training spent.
        match: by unit, trials until the search matches the policy; 0: never. int [units].

    Returns:
        The number of tasks, in both currencies; None where nothing is saved.
    """
    n_tasks = len(search.loss)
    trials = float(np.where(match == 0, search.trials, match).mean())
    saved = trials * search.inner_steps / (n_tasks * search.trials) - policy.inner_steps / n_tasks
    if saved <= 0:
        return BreakEven(None, None)
    saved_seconds = saved * search.seconds / search.inner_steps
    seconds = meta_training.seconds
    return BreakEven(
        meta_training.inner_steps / saved,
        None if seconds is None or saved_seconds <= 0 else seconds / saved_seconds,
    )
