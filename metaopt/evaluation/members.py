"""Tasks that are draws from fewer tables: what is independent is the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metaopt.evaluation.records import Comparison, MethodOutcome


def by_member(comparison: Comparison) -> Comparison:
    """The comparison with one entry for each member, the mean over its tasks.

    Several tasks of one table are not independent: an interval over tasks would be too narrow by far.

    Args:
        comparison: task by task.

    Returns:
        Member by member, in the order of their first tasks, and without `members`; the same comparison where the tasks
        are independent. A member on which a method diverged once counts as diverged.
    """
    if not comparison.members:
        return comparison

    def means(values: np.ndarray) -> np.ndarray:
        return member_means(values, comparison.members)

    def aggregated(method: MethodOutcome) -> MethodOutcome:
        return replace(
            method,
            loss=means(method.loss),
            accuracy=None if method.accuracy is None else means(method.accuracy),
            curve=means(method.curve),
            diverged=means(method.diverged) > 0,
        )

    methods = {name: aggregated(method) for name, method in comparison.methods.items()}
    return replace(comparison, n_tasks=len(set(comparison.members)), methods=methods, members=())


def member_means(values: np.ndarray, members: Sequence[str]) -> np.ndarray:
    """The mean over each member's tasks.

    Args:
        values: numbers by task, [tasks, ...].
        members: name of what each task is a draw from, [tasks]; empty where the tasks are independent.

    Returns:
        The means in the order of the members' first tasks, float64 [members, ...]; `values` where there are no members.
    """
    values = np.asarray(values, dtype=np.float64)
    if not members:
        return values
    names = list(dict.fromkeys(members))
    index = np.array([names.index(name) for name in members])
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index).reshape(-1, *[1] * (values.ndim - 1))
