"""What a task is worth on which training diverged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metaopt.errors import DataError

LARGEST_LOSS = float(np.finfo(np.float32).max)
"""Anything beyond counts as infinite, so that sums and squares of scored losses stay finite in float64."""


class Scored(NamedTuple):
    """Losses without NaN and infinity.

    Attributes:
        loss: [tasks, points].
        accuracy: [tasks, points]; NaN throughout for regression.
        diverged: tasks whose last loss was not finite, bool [tasks].
    """

    loss: np.ndarray
    accuracy: np.ndarray
    diverged: np.ndarray


def score_untrained(loss: np.ndarray, accuracy: np.ndarray) -> Scored:
    """Scores every point with a non-finite loss as the untrained network, the task's first point.

    It is what a user would fall back to, and it keeps a diverged task in the mean, where it counts against the method.
    A task that is not finite even untrained gets the worst finite untrained loss among the tasks.

    Args:
        loss: by task and recorded step, the first of which is step 0; [tasks, points].
        accuracy: at the same points, [tasks, points]; NaN for regression.

    Returns:
        The same numbers with finite losses, and which tasks diverged.

    Raises:
        DataError: no task has a finite loss at step 0.
    """
    finite = np.abs(loss) <= LARGEST_LOSS  # false for NaN as well
    untrained, sound = loss[:, :1], finite[:, :1]
    if not sound.any():
        raise DataError(
            f"expected finite losses before training, got none on all {len(loss)} tasks: "
            "look for NaN or infinity in the tasks' inputs and targets, and in the initialisation"
        )
    untrained = np.where(sound, untrained, untrained[sound].max())
    return Scored(
        loss=np.where(finite, loss, untrained),
        accuracy=np.where(finite, accuracy, accuracy[:, :1]),
        diverged=~finite[:, -1],
    )
