"""Tasks that are draws from fewer tables: what is independent is the tables."""

from __future__ import annotations

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
    names = list(dict.fromkeys(comparison.members))
    index = np.array([names.index(name) for name in comparison.members])
    counts = np.bincount(index, minlength=len(names))

    def means(values: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(names), *values.shape[1:]))
        np.add.at(sums, index, values)
        return sums / counts.reshape(-1, *[1] * (values.ndim - 1))

    def aggregated(method: MethodOutcome) -> MethodOutcome:
        return replace(
            method,
            loss=means(method.loss),
            accuracy=None if method.accuracy is None else means(method.accuracy),
            curve=means(method.curve),
            diverged=np.bincount(index[method.diverged], minlength=len(names)) > 0,
        )

    methods = {name: aggregated(method) for name, method in comparison.methods.items()}
    return replace(comparison, n_tasks=len(names), methods=methods, members=())
