"""Hypergradients in memory that grows with the square root of the horizon, or does not grow with it."""

from __future__ import annotations

from metaopt.inner.binomial import slots_for_two_trainings
from metaopt.inner.compile import Compiler
from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import SecondDerivative
from metaopt.inner.sweep import Sweep
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Checkpointing:
    """As `Mixed`, storing what tasks carry before a limited number of steps, and training again from there.

    The stored steps lie where the fewest others have to be trained again (Griewank, "Achieving logarithmic growth of
    temporal and spatial complexity in reverse automatic differentiation", 1992; see `binomial`). A number of them that
    is fixed makes memory that does not grow with the horizon, for time that grows slowly: with 20, a hundred steps are
    trained less than twice, and a thousand less than three times, on average.

    Args:
        stored: carries that are stored at once, at most: the one before the first step and those between two stored
            steps count; what the running step takes and gives does not. Any number from 1 on; more than the horizon
            are not used. None: the fewest with which no step is trained more than twice, about √(2 horizon).
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
        slots = slots_for_two_trainings(horizon) if self.stored is None else self.stored
        return self._sweep(policy, objective, tasks, draws, horizon, slots=slots, window=horizon, summed=summed)
