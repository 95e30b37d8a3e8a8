"""Hypergradients through windows of the training, for horizons at which the whole of it is too long or too chaotic."""

from __future__ import annotations

from metaopt.inner.compile import Compiler
from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import SecondDerivative
from metaopt.inner.sweep import Sweep
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Truncated:
    """Differentiates through `window` steps at a time; training goes on from window to window, derivatives do not.

    The loss is the mean of the query losses at the ends of the windows, so that every step of a schedule has a part in
    it. Biased, because what an early window does to a later one's loss is left out (Wu et al., "Understanding
    short-horizon bias in stochastic meta-optimization", 2018); with one window it is exact.

    Args:
        window: inner steps in a window; the last window may be shorter.
        second, chunk, compiler: see `Sweep`.
    """

    def __init__(
        self,
        window: int = 20,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
        self.window = window
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
        """See `HypergradientMethod`. Losses and accuracies are those at the horizon."""
        return self._sweep(
            policy, objective, tasks, draws, horizon, slots=self.window, window=self.window, summed=summed
        )
