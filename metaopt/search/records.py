"""What a search found, task by task and trial by trial: plain arrays, ready for statistics, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

WARM = "_warm"
"""What the name of a search ends with that starts from the policy."""


@dataclass(frozen=True)
class SearchOutcome:
    """One way of searching, run on every held-out task by itself.

    A search never sees test sets. After n trials its answer is the setting with the best validation loss among the
    first n; `loss` and `accuracy` say what that answer is worth on the test set.

    Attributes:
        name: key in the record: "random", "grid", "tpe", "gp", "cmaes" or "genetic"; with "_warm" where the search
            starts from the policy.
        description: what it is, for people: "tree-structured Parzen estimator".
        validation: validation loss of each trial, [tasks, trials]; finite: a trial that diverged has the task's worst.
        chosen: the trial, from 0, that is the answer after 1, 2, … trials, int [tasks, trials].
        loss: test loss of the answer after 1, 2, … trials, [tasks, trials]; finite.
        accuracy: its test accuracy, [tasks, trials]; None for regression.
        diverged: trials in which training diverged, bool [tasks, trials].
        settings: what was tried, by name of the hyperparameter, [tasks][trials].
        inner_steps: inner steps spent, over all tasks and trials.
        seconds: seconds of computing spent, over all tasks and trials: of the sampler and of training.
    """

    name: str
    description: str
    validation: np.ndarray
    chosen: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray | None
    diverged: np.ndarray
    settings: list[list[dict[str, Any]]]
    inner_steps: int
    seconds: float

    @property
    def trials(self) -> int:
        """Trials on each task."""
        return self.validation.shape[1]


@dataclass(frozen=True)
class Cost:
    """What meta-training spent.

    Attributes:
        inner_steps: inner steps, each of which was also differentiated through.
        seconds: wall time; None where the checkpoint does not say.
    """

    inner_steps: int
    seconds: float | None = None
