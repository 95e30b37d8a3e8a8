"""Forth through the training, storing what tasks carry, and back step by step from what was stored: no graph at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metaopt.inner.binomial import first_part
from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.examine import Derivatives, needs_of
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import Pieces, SecondDerivative
from metaopt.inner.program import Program, Step
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch

DERIVATIVES: dict[SecondDerivative, Derivatives] = {"reverse": "second", "forward": "forward", "none": "first"}


class Sweep:
    """The one mechanism behind `Mixed`, `Checkpointing` and `Truncated`, which differ in how much they store and cut.

    Args:
        second: how a step gets its Hessian-vector product; `none` is first order. Where a loss has no derivatives in
            forward mode, it is got in reverse mode, which gives the same.
        chunk: tasks side by side.
        compiler: compiles a step forth and a step back, whatever the horizon; None: not compiled.
    """

    def __init__(self, second: SecondDerivative, chunk: int, compiler: Compiler | None) -> None:
        compiler = compiler or Eager()
        self._chunk = chunk
        self._workers = compiler.workers

        self._second: SecondDerivative = second

        def both(second: SecondDerivative, policy: Policy, objective: Objective) -> dict[bool, Pieces]:
            program = Program(policy, objective)
            return {summed: Pieces(program, second, compiler, summed) for summed in (True, False)}

        ways: set[SecondDerivative] = {second, "reverse"}
        self._pieces = {way: PerPolicy(partial(both, way)) for way in ways}

    def __call__(
        self,
        policy: Policy,
        objective: Objective,
        tasks: TaskBatch,
        draws: Draws,
        horizon: int,
        slots: int,
        window: int,
        summed: bool,
    ) -> Hypergradients:
        """See `HypergradientMethod`.

        Args:
            policy, objective, tasks, draws, horizon, summed: see there.
            slots: steps before which what tasks carry is stored at once, at most; see `Trail`. With as many as a window
                has steps, nothing is trained twice.
            window: steps through which derivatives flow at a time. Training is carried on from window to window, and
                what is differentiated is the mean of the query losses at their ends.
        """
        needs = needs_of(policy, objective, tasks, draws, DERIVATIVES[self._second], "values")
        second = "reverse" if needs.forward is False else self._second
        pieces = self._pieces[second](policy, objective)[summed]
        steps = pieces.steps(horizon)
        windows = [steps[i : i + window] for i in range(0, horizon, window)]

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return _differentiate(pieces, group, windows, slots)

        return in_groups(pieces.program, policy.span, tasks, draws, self._chunk, differentiate, needs, self._workers)


def _differentiate(pieces: Pieces, group: Group, windows: list[list[Step]], slots: int) -> tuple[Tensor, ...]:
    """Hypergradients [tasks, numbers], and at the horizon query losses, query accuracies and support losses."""
    values, carry = pieces.enter(group.hyper, group.data.noise)
    collected = values.new_zeros(len(values)) if pieces.summed else values.new_zeros(len(carry), len(values))
    by_start = torch.zeros_like(carry)
    loss = accuracy = support_loss = carry.new_zeros(len(carry))
    for i, steps in enumerate(windows):
        trail = Trail(_advancing(pieces, values, group, steps), carry, slots)
        carry, support_loss = trail.pop(len(steps)), trail.support_loss
        cotangent, loss, accuracy = pieces.finish(carry, *group.query)
        if i == len(windows) - 1:
            carry = carry.new_empty(0)  # what is carried at the end would be kept for a window that does not come
        for at in reversed(range(len(steps))):
            cotangent, collected = pieces.back(values, trail.pop(at), steps[at], cotangent, collected, *group.data)
        if i == 0:
            by_start = cotangent
    grads = pieces.leave(group.hyper, group.data.noise, by_start, collected)
    return grads / len(windows), loss, accuracy, support_loss


def _advancing(
    pieces: Pieces, values: Tensor, group: Group, steps: list[Step]
) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """The function that trains through one of `steps`, by its index."""
    return lambda carry, at: pieces.advance(values, carry, steps[at], *group.data)


class Trail:
    """What tasks carry along a training, given out from its end to its beginning, of which only some is stored.

    Stored are at most `slots` carries, the first included, each until it is given out; where to store is for
    `first_part` to say. Beside them there is only what the running step takes and what it gives.

    Args:
        advance: (what is carried before a step, its index) -> what is carried after it, and the support losses.
        start: what is carried before step 0.
        slots: at least 1.

    Attributes:
        support_loss: support losses [tasks] of the step that was trained last; NaN before any was.
    """

    def __init__(self, advance: Callable[[Tensor, int], tuple[Tensor, Tensor]], start: Tensor, slots: int) -> None:
        self._advance = advance
        self._slots = slots
        self._stored = [(0, start)]
        self.support_loss = start.new_full((len(start),), torch.nan)

    def pop(self, at: int) -> Tensor:
        """What is carried before step `at`, [tasks, carry], trained for again if need be, and stored no longer.

        Args:
            at: the number of steps at the first call, and one less at each further one, down to 0.
        """
        while self._stored[-1][0] < at:
            begin, carry = self._stored[-1]
            end = begin + first_part(at + 1 - begin, self._slots + 1 - len(self._stored))
            for i in range(begin, end):
                carry, self.support_loss = self._advance(carry, i)
            self._stored.append((end, carry))
        return self._stored.pop()[1]
