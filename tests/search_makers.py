"""Outcomes of policies and searches from bare numbers, for tests of what is made of them."""

import numpy as np

from metaopt.evaluation.records import MethodOutcome
from metaopt.search.records import SearchOutcome

HORIZON = 10


def policy_of(loss, name="policy", accuracy=None):
    """A policy, or a baseline, with this test loss on each task."""
    loss = np.asarray(loss, dtype=np.float64)
    return MethodOutcome(
        name=name,
        description=f"the {name}",
        loss=loss,
        accuracy=None if accuracy is None else np.asarray(accuracy, dtype=np.float64),
        curve=loss[:, None],
        diverged=np.zeros(len(loss), dtype=bool),
        seconds=1.0,
        inner_steps=HORIZON * len(loss),
    )


def search_of(loss, name="random", accuracy=None, settings=None, seconds=2.0, folds=1):
    """A search with this test loss of its answer by task and trial; a task without trials means one trial each."""
    loss = np.asarray(loss, dtype=np.float64)
    loss = loss[:, None] if loss.ndim == 1 else loss
    return SearchOutcome(
        name=name,
        description=f"the {name}",
        validation=loss + 0.5,
        chosen=np.tile(np.arange(loss.shape[1]), (len(loss), 1)),
        loss=loss,
        accuracy=None if accuracy is None else np.asarray(accuracy, dtype=np.float64),
        diverged=np.zeros(loss.shape, dtype=bool),
        settings=settings or [[{"lr": 0.1}] * loss.shape[1] for _ in loss],
        inner_steps=HORIZON * folds * loss.size,
        seconds=seconds,
    )
