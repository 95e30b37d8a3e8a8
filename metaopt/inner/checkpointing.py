"""Hypergradients in memory that grows with the square root of the horizon."""

from __future__ import annotations

import math

from torch import Tensor

from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.mixed import differentiate_window
from metaopt.inner.pieces import Pieces, SecondDerivative
from metaopt.inner.program import Program
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
        second: how a step gets its Hessian-vector product; see `SecondDerivative`.
        chunk: tasks side by side.
        compiler: compiles a step forth and a step back, whatever the horizon.
    """

    def __init__(
        self,
        stored: int | None = None,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
        compiler = compiler or Eager()
        self.stored = stored
        self.chunk = chunk
        self._pieces = PerPolicy(lambda policy, objective: Pieces(Program(policy, objective), second, compiler))

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`."""
        pieces = self._pieces(policy, objective)
        every = spacing(horizon, self.stored)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return differentiate_window(pieces, group, horizon, every)

        return in_groups(pieces.program, tasks, draws, self.chunk, differentiate)


def spacing(horizon: int, stored: int | None = None) -> int:
    """Steps from one stored step to the next."""
    return math.ceil(horizon / stored) if stored is not None else math.ceil(math.sqrt(horizon))
