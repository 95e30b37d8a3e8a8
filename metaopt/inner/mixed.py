"""Hypergradients without a graph, from what tasks carried at each step."""

from __future__ import annotations

from metaopt.inner.compile import Compiler
from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import SecondDerivative
from metaopt.inner.sweep import Sweep
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Mixed:
    """What tasks carry is stored before every step; the backward pass differentiates one step at a time.

    Exact, up to rounding. Memory grows by the parameters (and the rule's memory) for each step.

    Args:
        second, chunk, compiler: see `Sweep`.
    """

    def __init__(
        self,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
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
        return self._sweep(policy, objective, tasks, draws, horizon, slots=horizon, window=horizon, summed=summed)
