"""Regression of sine curves: the families of one-dimensional tasks of MAML and of Meta-SGD."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from metaopt.errors import TaskError
from metaopt.tasks.family import hash_splits
from metaopt.types import SPLITS, Batch, Kind, Split, TaskBatch, TaskSpec

AMPLITUDE = (0.1, 5.0)
FREQUENCY = (0.8, 1.2)
PHASE = (0.0, math.pi)
INPUT = (-5.0, 5.0)
DISTRIBUTIONS = {
    "maml": "y = A sin(x - phase), A ~ U[0.1, 5], phase ~ U[0, pi], x ~ U[-5, 5]",
    "meta_sgd": "y = A sin(w x + phase), A ~ U[0.1, 5], w ~ U[0.8, 1.2], phase ~ U[0, pi], x ~ U[-5, 5]",
}
"""By name, as the split hash has it."""


@final
class Sinusoid:
    """Sine curves, of which amplitude and phase, and in one of the distributions the frequency, are drawn.

    `maml` (Finn et al., "Model-agnostic meta-learning", 2017): y = A sin(x − φ), A uniform in [0.1, 5], φ uniform in
    [0, π], x uniform in [−5, 5]. `meta_sgd` (Li et al., "Meta-SGD", 2017): y = A sin(ωx + φ), with ω uniform in
    [0.8, 1.2] and the rest the same.

    The three splits are independent draws of this one continuous distribution: no task comes twice, but meta-test
    tasks are of the same kind as meta-train tasks. Support, query and test points of a task are separate draws.

    Args:
        support: points per task that the inner loop trains on.
        query: points per task for the outer loss.
        test: points per task for the final comparison.
        distribution: `maml` or `meta_sgd`.

    Raises:
        TaskError: a set would have no points, or there is no such distribution.
    """

    def __init__(self, support: int = 5, query: int = 10, test: int = 100, distribution: str = "maml") -> None:
        for key, size in (("support", support), ("query", query), ("test", test)):
            if size < 1:
                raise TaskError(f"sinusoid: tasks.{key} must be at least 1 point per task, but is {size}; raise it")
        if distribution not in DISTRIBUTIONS:
            raise TaskError(
                f"sinusoid: tasks.distribution is {distribution!r}; choose one of {', '.join(DISTRIBUTIONS)}"
            )
        self.name = "sinusoid"
        self.spec = TaskSpec(Kind.regression, (1,), 1)
        self.splits: dict[Split, list[str]] = {split: [DISTRIBUTIONS[distribution]] for split in SPLITS}
        self.split_hash = hash_splits(self.name, self.splits)
        self._sizes = (support, query, test)
        self._distribution = distribution

    def sample(self, split: Split, n: int, generator: torch.Generator) -> TaskBatch:
        """Draw `n` curves and their points.

        Args:
            split: without influence, since all splits are draws of one distribution.
            n: number of tasks.
            generator: a CPU generator; the only source of randomness.

        Returns:
            Inputs and targets [tasks, points, 1], float32.
        """
        amplitude = _uniform(AMPLITUDE, (n, 1, 1), generator)
        phase = _uniform(PHASE, (n, 1, 1), generator)
        if self._distribution == "maml":
            x = _uniform(INPUT, (n, sum(self._sizes), 1), generator)
            y = amplitude * torch.sin(x - phase)
        else:
            frequency = _uniform(FREQUENCY, (n, 1, 1), generator)
            x = _uniform(INPUT, (n, sum(self._sizes), 1), generator)
            y = amplitude * torch.sin(frequency * x + phase)
        sets = zip(x.split(self._sizes, dim=1), y.split(self._sizes, dim=1), strict=True)
        return TaskBatch(*(Batch(inputs.contiguous(), targets.contiguous()) for inputs, targets in sets))


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
