"""The mean hypergradient of a meta-batch whose tasks lie in one process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.inner.hypergradient import Hypergradients
from metaopt.outer.ranks import Ranks


class Means(NamedTuple):
    """Means over those tasks of a meta-batch for which all is finite; NaN where there is none.

    Attributes:
        flat: hypergradient, [numbers]; infinite where the sum overflows.
        loss: query loss.
        accuracy: query accuracy; NaN for regression.
        support_loss: support loss that the last inner step saw.
        dropped: number of the other tasks.
    """

    flat: Tensor
    loss: float
    accuracy: float
    support_loss: float
    dropped: int


def finite_means(found: Sequence[Hypergradients], ranks: Ranks) -> Means:
    """Means over the tasks of all processes, equal to the bit in each of them.

    Args:
        found: of the tasks of this process, part by part; where they are summed, they must be finite.
        ranks: this process among the others.
    """
    (total, sums), *others = (_sums(part) for part in found)
    for flat, numbers in others:
        total, sums = total + flat, [a + b for a, b in zip(sums, numbers, strict=True)]
    total, sums = ranks.sums(total, sums)
    kept, dropped, *scores = sums
    loss, accuracy, support_loss = (score / kept if kept else float("nan") for score in scores)
    return Means(total / kept, loss, accuracy, support_loss, int(dropped))


def _sums(found: Hypergradients) -> tuple[Tensor, list[float]]:
    """Sums over this process's tasks: hypergradients; kept tasks, dropped tasks, and the three scores."""
    flat, scores, n_tasks = found.flat, torch.stack((found.loss, found.accuracy, found.support_loss)), len(found.loss)
    kept = n_tasks
    if len(flat) == n_tasks and not found.finite:  # only then is it worth the time to look task by task
        good = torch.isfinite(flat).all(1) & torch.isfinite(found.loss)
        flat, scores, kept = flat[good], scores[:, good], int(good.sum())
    total = flat[0] if len(flat) == 1 else flat.sum(0)
    return total, [kept, n_tasks - kept, *scores.sum(1, dtype=torch.float64).tolist()]
