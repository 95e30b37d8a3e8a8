"""What search costs where a policy costs nothing: how many trials it takes to match the policy, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from metaopt.errors import ConfigError, DataError
from metaopt.evaluation.members import member_means
from metaopt.evaluation.records import MethodOutcome
from metaopt.evaluation.statistics import Interval, Paired, holm, mean_interval, paired, paired_p
from metaopt.search.break_even import BreakEven, break_even
from metaopt.search.records import Cost, SearchOutcome


class PValue(NamedTuple):
    """How likely a difference to the policy as large as a method's is, were there none.

    Attributes:
        p: two-sided, of a paired t-test.
        p_holm: the same, corrected by Holm for all methods that stand beside the policy.
    """

    p: float
    p_holm: float


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
        break_even: number of tasks after which meta-training has paid for itself in inner steps; None where it
            never does. See `break_even`.
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
        others: p-values of the baselines that stand beside the policy too, by name; Holm's correction counts them.
    """

    policy: Interval
    policy_accuracy: Interval | None
    unit: str
    n_units: int
    validation: str
    methods: Mapping[str, MethodAccount]
    meta_training: Cost
    others: Mapping[str, PValue] = field(default_factory=dict)


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
    """Holds searches against the policy, on the same tasks.

    Several tasks of one table are not independent: where `members` are given, every number is averaged over a member's
    tasks first, and the units that means, intervals, tests and trials to match are over are members.

    For break-even see `break_even`; it is None where one trial leaves a lower mean test loss than the policy, since
    there is nothing to pay back. An inner step of meta-training is also differentiated through, and so costs more than
    one of a search: counted in inner steps, meta-training comes off a little too cheap. Seconds do not have that flaw.

    Args:
        policy: what the policy reached on each task.
        searches: what each search found on the same tasks, in the order in which they are to be shown.
        meta_training: what the policy cost.
        others: baselines that are held against the policy beside the searches. They are not accounted for here, but
            Holm's correction counts their tests.
        members: name of what each task is a draw from, such as its table, [tasks]; empty where tasks are independent.
        unit: what means and intervals are over: "task", or what `members` are: "table".
        validation: how settings were chosen: "holdout" or "kfold".

    Returns:
        The account. With a single unit no difference can be tested: every p-value is 1.

    Raises:
        ConfigError: two methods have the same name.
        DataError: a method or `members` is of other tasks than the policy, or a loss is not finite.
    """
    _check(policy, searches, others, members)

    def units(values: np.ndarray) -> np.ndarray:
        return member_means(values, members)

    loss = units(policy.loss)
    rivals = {search.name: units(search.loss[:, -1]) for search in searches}
    rivals |= {other.name: units(other.loss) for other in others}
    p = [paired_p(rival, loss) for rival in rivals.values()]
    tests = dict(zip(rivals, map(PValue, p, holm(p)), strict=True))
    return Account(
        policy=mean_interval(loss),
        policy_accuracy=None if policy.accuracy is None else mean_interval(units(policy.accuracy)),
        unit=unit,
        n_units=len(loss),
        validation=validation,
        methods={
            search.name: _method(search, policy, meta_training, members, tests[search.name]) for search in searches
        },
        meta_training=meta_training,
        others={other.name: tests[other.name] for other in others},
    )


def trials_to_match(curves: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The fewest trials after which a curve is no higher than its target; a later rise takes nothing back.

    Args:
        curves: test loss of the answer after 1, 2, … trials, [units, trials].
        target: loss to match, [units].

    Returns:
        Trials, counted from 1, int [units]; 0 where the curve stays above throughout.
    """
    matched = curves <= target[:, None]
    return np.where(matched.any(axis=1), matched.argmax(axis=1) + 1, 0)


def _method(
    search: SearchOutcome, policy: MethodOutcome, meta_training: Cost, members: Sequence[str], test: PValue
) -> MethodAccount:
    curves, target = member_means(search.loss, members), member_means(policy.loss, members)
    loss, policy_mean = _intervals(curves), mean_interval(target).mean
    match = trials_to_match(curves, target)
    match_on_mean = trials_to_match(np.array([[after.mean for after in loss]]), np.array([policy_mean]))[0]
    # A policy that is worse than a search's first guess saves no trials, however few tasks it takes to say so.
    worth = break_even(search, policy, meta_training, match) if policy_mean <= loss[0].mean else BreakEven(None, None)
    n_tasks = len(search.loss)
    return MethodAccount(
        name=search.name,
        description=search.description,
        loss=loss,
        accuracy=None if search.accuracy is None else _intervals(member_means(search.accuracy, members)),
        against=paired(curves[:, -1], target),
        p=test.p,
        p_holm=test.p_holm,
        match_on_mean=int(match_on_mean) or None,
        match=match,
        trials=search.trials,
        inner_steps=search.inner_steps / n_tasks,
        seconds=search.seconds / n_tasks,
        break_even=worth.inner_steps,
        break_even_seconds=worth.seconds,
    )


def _intervals(curves: np.ndarray) -> list[Interval]:
    """After each trial, from [units, trials]."""
    return [mean_interval(after) for after in curves.T]


def _check(
    policy: MethodOutcome, searches: Sequence[SearchOutcome], others: Sequence[MethodOutcome], members: Sequence[str]
) -> None:
    methods = [policy, *searches, *others]
    names = [method.name for method in methods]
    if len(set(names)) < len(names):
        raise ConfigError(f"expected every method once, got {names}: remove the repeated ones")
    n_tasks = len(policy.loss)
    for method in methods:
        if len(method.loss) != n_tasks:
            raise DataError(
                f"expected {method.name} on the policy's {n_tasks} tasks, got {len(method.loss)}: "
                "run both on the same tasks"
            )
        if not np.isfinite(method.loss).all():
            raise DataError(f"expected finite test losses of {method.name}, got NaN or infinity: score diverged tasks")
    if members and len(members) != n_tasks:
        raise DataError(f"expected a member for each of {n_tasks} tasks, got {len(members)}: name every task's member")
