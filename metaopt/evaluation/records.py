"""What an evaluation found: plain arrays, ready for statistics, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

BatchStatistics: TypeAlias = Literal["transductive", "inductive"]
"""What normalises a prediction: statistics of all the test inputs together, or of the task's support set."""


@dataclass(frozen=True)
class MethodOutcome:
    """One method on every held-out task.

    A task on which training ended in a non-finite loss has diverged: it is scored as its untrained network, so that it
    counts against the method and never becomes NaN in a record.

    Attributes:
        name: key in the record: "policy", "sgd", "adam", "tuned".
        description: what it is, for people: "SGD, learning rate 0.1".
        loss: test loss after the horizon, [tasks].
        accuracy: test accuracy after the horizon, [tasks]; None for regression.
        curve: test loss after each of the comparison's `curve_steps`, [tasks, points].
        diverged: bool [tasks].
        seconds: wall time spent, search included.
        inner_steps: inner steps spent, search included.
        trials: settings tried by the search that chose this method's hyperparameters; None without search.
        settings: the hyperparameters that were used, for the record.
    """

    name: str
    description: str
    loss: np.ndarray
    accuracy: np.ndarray | None
    curve: np.ndarray
    diverged: np.ndarray
    seconds: float
    inner_steps: int
    trials: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The policy and the baselines on the same tasks, from the same initialisations, at the same horizon.

    Attributes:
        tasks: name of the task family.
        kind: "classification" or "regression".
        split: the split that the tasks came from.
        split_hash: the hash of the family's splits.
        n_tasks: number of tasks.
        horizon: number of inner steps.
        seed: seed of the tasks, initialisations and minibatches.
        curve_steps: the steps after which test losses were recorded, increasing, from 0 to the horizon; [points].
        methods: by name, in the order in which they are shown; "policy" is the first.
        notes: what a reader must know, such as that batch normalisation saw the whole test batch.
        members: name of what each task is a draw from, such as its table, [tasks]; empty where tasks are independent.
        unit: what means and intervals are over: "task", or what `members` are: "table".
        batch_statistics: how test sets were predicted; None where the model has no batch statistics.
    """

    tasks: str
    kind: str
    split: str
    split_hash: str
    n_tasks: int
    horizon: int
    seed: int
    curve_steps: np.ndarray
    methods: dict[str, MethodOutcome]
    notes: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    unit: str = "task"
    batch_statistics: BatchStatistics | None = None
