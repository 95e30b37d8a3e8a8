"""The mean hypergradient of a meta-batch whose tasks lie in one process or in several."""

from __future__ import annotations

import math
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


def finite_means(found: Hypergradients, ranks: Ranks) -> Means:
    """Means over the tasks of all processes, equal to the bit in each of them.

    Args:
        found: of the tasks of this process.
        ranks: this process among the others.
    """
    # One vector, so that the processes talk once; in double precision, which holds a process's own sum as it is.
    sums = ranks.sum(_sums(found))
    kept, dropped, *scores = sums[-5:].tolist()
    loss, accuracy, support_loss = (score / kept if kept else float("nan") for score in scores)
    return Means(sums[:-5].to(found.flat.dtype) / kept, loss, accuracy, support_loss, int(dropped))


def _sums(found: Hypergradients) -> Tensor:
    """Hypergradients, kept tasks, dropped tasks, and the three scores: sums over this process's tasks, float64."""
    flat, scores, n_tasks = found.flat, torch.stack((found.loss, found.accuracy, found.support_loss)), len(found.loss)
    total = flat.sum(0)
    if not math.isfinite(total.sum() + found.loss.sum()):  # only then is it worth the time to look task by task
        kept = torch.isfinite(flat).all(1) & torch.isfinite(found.loss)
        flat, scores = flat[kept], scores[:, kept]
        total = flat.sum(0)
    counts = torch.tensor([len(flat), n_tasks - len(flat)], dtype=torch.float64, device=flat.device)
    return torch.cat((total.double(), counts, scores.sum(1, dtype=torch.float64)))
