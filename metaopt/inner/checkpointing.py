"""Hypergradients in memory that grows with the square root of the horizon."""

from __future__ import annotations

import math

from metaopt.inner.compile import Compiler
from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import SecondDerivative
from metaopt.inner.sweep import Sweep
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Checkpointing:
    """As `Mixed`, storing what tasks carry at a limited number of steps, for one more training without derivatives.

    √horizon stored steps with as many between two of them is the balance with the least memory (Griewank, "Achieving
    logarithmic growth of temporal and spatial complexity in reverse automatic differentiation", 1992, has schemes that
    store less and recompute more).

    Args:
        stored: number of stored steps; None: about √horizon.
        second, chunk, compiler: see `Sweep`.
    """

    def __init__(
        self,
        stored: int | None = None,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
        self.stored = stored
        self.chunk = chunk
        self._sweep = Sweep(second, chunk, compiler)

    def __call__(
        self,
        policy: Policy,
        objective: Objective,
        tasks: TaskBatch,
        draws: Draws,
        horizon: int,
        summed: bool = False,
    ) -> Hypergradients:
        """See `HypergradientMethod`."""
        return self._sweep(
            policy, objective, tasks, draws, horizon, every=spacing(horizon, self.stored), window=horizon, summed=summed
        )


def spacing(horizon: int, stored: int | None = None) -> int:
    """Steps from one stored step to the next."""
    return math.ceil(horizon / stored) if stored is not None else math.ceil(math.sqrt(horizon))
