"""Forth through the training, storing what tasks carry, and back step by step from what was stored: no graph at all."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import Pieces, SecondDerivative
from metaopt.inner.program import Program, Step
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Sweep:
    """The one mechanism behind `Mixed`, `Checkpointing` and `Truncated`, which differ in where they store and cut.

    Args:
        second: how a step gets its Hessian-vector product; `none` is first order.
        chunk: tasks side by side.
        compiler: compiles a step forth and a step back, whatever the horizon; None: not compiled.
    """

    def __init__(self, second: SecondDerivative, chunk: int, compiler: Compiler | None) -> None:
        self._chunk = chunk
        self._pieces = PerPolicy(
            lambda policy, own: {
                summed: Pieces(Program(policy, own), second, compiler or Eager(), summed) for summed in (True, False)
            }
        )

    def __call__(
        self,
        policy: Policy,
        objective: Objective,
        tasks: TaskBatch,
        draws: Draws,
        horizon: int,
        every: int,
        window: int,
        summed: bool,
    ) -> Hypergradients:
        """See `HypergradientMethod`.

        Args:
            policy, objective, tasks, draws, horizon, summed: see there.
            every: what tasks carry is stored before each so-manieth step; from there it is trained again.
            window: steps through which derivatives flow at a time. Training is carried on from window to window, and
                what is differentiated is the mean of the query losses at their ends.
        """
        pieces = self._pieces(policy, objective)[summed]
        steps = pieces.steps(horizon)
        windows = [steps[i : i + window] for i in range(0, horizon, window)]

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return _differentiate(pieces, group, windows, every)

        return in_groups(pieces.program, tasks, draws, self._chunk, differentiate)


def _differentiate(pieces: Pieces, group: Group, windows: list[list[Step]], every: int) -> tuple[Tensor, ...]:
    """Hypergradients [tasks, numbers], and at the horizon query losses, query accuracies and support losses."""
    values, carry = pieces.enter(group.hyper, group.data.noise)
    collected = values.new_zeros(len(values)) if pieces.summed else values.new_zeros(len(carry), len(values))
    by_start = torch.zeros_like(carry)
    loss = accuracy = support_loss = carry.new_zeros(len(carry))
    for i, steps in enumerate(windows):
        stored, carry, support_loss = _forth(pieces, values, carry, group, steps, every)
        cotangent, loss, accuracy = pieces.finish(carry, *group.query)
        cotangent, collected = _back(pieces, values, stored, group, steps, every, cotangent, collected)
        if i == 0:
            by_start = cotangent
    grads = pieces.leave(group.hyper, group.data.noise, by_start, collected)
    return grads / len(windows), loss, accuracy, support_loss


def _forth(
    pieces: Pieces, values: Tensor, carry: Tensor, group: Group, steps: list[Step], every: int
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Trains through `steps`.

    Returns:
        What was carried before each `every`-th of them, what is carried after the last, and the last support losses.
    """
    stored: list[Tensor] = []
    support_loss = carry.new_zeros(len(carry))
    for i, step in enumerate(steps):
        if i % every == 0:
            stored.append(carry)
        carry, support_loss = pieces.advance(values, carry, step, *group.data)
    return stored, carry, support_loss


def _back(
    pieces: Pieces,
    values: Tensor,
    stored: list[Tensor],
    group: Group,
    steps: list[Step],
    every: int,
    cotangent: Tensor,
    collected: Tensor,
) -> tuple[Tensor, Tensor]:
    """Takes derivatives back through `steps`, and empties `stored` on the way.

    Returns:
        Derivatives by what was carried at first, [tasks, carry], and by the values, [tasks, values].
    """
    for begin in reversed(range(0, len(steps), every)):
        segment = steps[begin : begin + every]
        carried = [stored.pop()]
        for step in segment[:-1]:
            carried.append(pieces.advance(values, carried[-1], step, *group.data)[0])
        for step in reversed(segment):
            cotangent, collected = pieces.back(values, carried.pop(), step, cotangent, collected, *group.data)
    return cotangent, collected
