"""Hypergradients without a graph: forth through the training, and back step by step from what was stored."""

from __future__ import annotations

from torch import Tensor

from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.pieces import Pieces, SecondDerivative
from metaopt.inner.program import Program
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch


class Mixed:
    """What tasks carry is stored at every k-th step; the backward pass trains from there again, and differentiates.

    Exact, up to rounding. With k = 1 memory grows by the parameters (and the rule's memory) for each step; with larger
    k, by one k-th of that and k steps' worth, for one more training without gradients of gradients.

    Args:
        every: k.
        second: how a step gets its Hessian-vector product; `none` is first order.
        chunk: tasks side by side.
        compiler: compiles a step forth and a step back, whatever the horizon.
    """

    def __init__(
        self,
        every: int = 1,
        second: SecondDerivative = "reverse",
        chunk: int = 64,
        compiler: Compiler | None = None,
    ) -> None:
        compiler = compiler or Eager()
        self.every = every
        self.chunk = chunk
        self._pieces = PerPolicy(lambda policy, objective: Pieces(Program(policy, objective), second, compiler))

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`."""
        pieces = self._pieces(policy, objective)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return differentiate_window(pieces, group, horizon, self.every)

        return in_groups(pieces.program, tasks, draws, self.chunk, differentiate)


def differentiate_window(pieces: Pieces, group: Group, horizon: int, every: int) -> tuple[Tensor, ...]:
    """Hypergradients [tasks, numbers], query losses, query accuracies and last support losses of a group."""
    steps = pieces.steps(horizon)
    values, carry = pieces.enter(group.hyper, group.data.noise)
    collected = values.new_zeros(len(carry), len(values))
    stored, carry, support_loss = forth(pieces, values, carry, group, steps, every)
    cotangent, loss, accuracy = pieces.finish(carry, *group.query)
    cotangent, collected = back(pieces, values, stored, group, steps, every, cotangent, collected)
    return pieces.leave(group.hyper, group.data.noise, cotangent, collected), loss, accuracy, support_loss


def forth(
    pieces: Pieces, values: Tensor, carry: Tensor, group: Group, steps: list, every: int
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


def back(
    pieces: Pieces,
    values: Tensor,
    stored: list[Tensor],
    group: Group,
    steps: list,
    every: int,
    cotangent: Tensor,
    collected: Tensor,
) -> tuple[Tensor, Tensor]:
    """Takes derivatives back through `steps`, and empties `stored` on the way.

    Returns:
        Derivatives by what was carried at first, [tasks, carry], and by the values, [tasks, values].
    """
    for begin in reversed(range(0, len(steps), every)):
        window = steps[begin : begin + every]
        carried = [stored.pop()]
        for step in window[:-1]:
            carried.append(pieces.advance(values, carried[-1], step, *group.data)[0])
        for step in reversed(window):
            cotangent, collected = pieces.back(values, carried.pop(), step, cotangent, collected, *group.data)
    return cotangent, collected
