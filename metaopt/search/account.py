"""What search costs where a policy costs nothing: how many trials it takes to match the policy, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaopt.evaluation.records import MethodOutcome
from metaopt.evaluation.statistics import Interval, Paired
from metaopt.search.records import Cost, SearchOutcome


@dataclass(frozen=True)
class MethodAccount:
    """One way of searching, held against the policy.

    Attributes:
        name, description: as in `SearchOutcome`.
        loss: test loss of the answer after 1, 2, … trials: mean over units with its interval, [trials].
        accuracy: likewise test accuracy; None for regression.
        against: the search's test loss after all trials minus the policy's, paired over units.
        p: two-sided p-value of that difference (paired t-test).
        p_holm: the same, corrected by Holm for all methods that stand beside the policy.
        match_on_mean: the fewest trials after which the mean test loss is no higher than the policy's; None: never.
        match: by unit, the fewest trials after which the answer's test loss is no higher than the policy's,
            int [units]; 0 where no number of trials was enough.
        trials: trials on each task.
        inner_steps: inner steps on one task, for all trials; mean over tasks.
        seconds: seconds on one task, for all trials; mean over tasks.
        break_even: number of tasks after which meta-training has paid for itself in inner steps: what it spent,
            divided by what this search spends on one task until it matches the policy (all of its trials where it does
            not). None where the policy's mean test loss is higher than that after one trial: there is nothing to pay back.
        break_even_seconds: the same in seconds; None also where meta-training's seconds are not known.
    """

    name: str
    description: str
    loss: Sequence[Interval]
    accuracy: Sequence[Interval] | None
    against: Paired
    p: float
    p_holm: float
    match_on_mean: int | None
    match: np.ndarray
    trials: int
    inner_steps: float
    seconds: float
    break_even: float | None
    break_even_seconds: float | None


@dataclass(frozen=True)
class Account:
    """All ways of searching, held against the policy.

    Attributes:
        policy: the policy's test loss, mean over units.
        policy_accuracy: likewise; None for regression.
        unit: what means and intervals are over: "task" or "table".
        n_units: how many there are.
        validation: how settings were chosen: "holdout" (on the query set) or "kfold" (by cross-validation).
        methods: by name, in the order in which they are shown.
        meta_training: what meta-training spent.
    """

    policy: Interval
    policy_accuracy: Interval | None
    unit: str
    n_units: int
    validation: str
    methods: Mapping[str, MethodAccount]
    meta_training: Cost


def account(
    policy: MethodOutcome,
    searches: Sequence[SearchOutcome],
    meta_training: Cost,
    *,
    others: Sequence[MethodOutcome] = (),
    members: Sequence[str] = (),
    unit: str = "task",
    validation: str = "holdout",
) -> Account:
    """Holds searches against the policy, on the same tasks."""
    raise NotImplementedError
