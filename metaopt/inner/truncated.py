"""Hypergradients through windows of the training, for horizons at which the whole of it is too long or too chaotic."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.mixed import back, forth
from metaopt.inner.pieces import Pieces, SecondDerivative
from metaopt.inner.program import Program
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
        second: how a step gets its Hessian-vector product; see `SecondDerivative`.
        chunk: tasks side by side.
        compiler: compiles a step forth and a step back, whatever the horizon.
    """

    def __init__(
        self,
        window: int = 20,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
        compiler = compiler or Eager()
        self.window = window
        self.chunk = chunk
        self._pieces = PerPolicy(lambda policy, objective: Pieces(Program(policy, objective), second, compiler))

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`. Losses and accuracies are those at the horizon."""
        pieces = self._pieces(policy, objective)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return self._windows(pieces, group, horizon)

        return in_groups(pieces.program, tasks, draws, self.chunk, differentiate)

    def _windows(self, pieces: Pieces, group: Group, horizon: int) -> tuple[Tensor, ...]:
        all_steps = pieces.steps(horizon)
        windows = [all_steps[i : i + self.window] for i in range(0, horizon, self.window)]
        values, carry = pieces.enter(group.hyper, group.data.noise)
        collected = values.new_zeros(len(carry), len(values))
        by_start = torch.zeros_like(carry)
        loss = accuracy = support_loss = carry.new_zeros(len(carry))
        for i, steps in enumerate(windows):
            stored, carry, support_loss = forth(pieces, values, carry, group, steps, every=1)
            cotangent, loss, accuracy = pieces.finish(carry, *group.query)
            cotangent, collected = back(pieces, values, stored, group, steps, 1, cotangent, collected)
            if i == 0:
                by_start = cotangent
        grads = pieces.leave(group.hyper, group.data.noise, by_start, collected)
        return grads / len(windows), loss, accuracy, support_loss
