"""Hypergradients in forward mode: a tangent for each of the policy's numbers, and no memory of the steps behind."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.inner.draws import Draws
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.jvp import jvp
from metaopt.inner.program import Data, Program, Step, side_by_side
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.types import TaskBatch

MOST_NUMBERS = 512
"""Tangents that forward mode carries at most: each costs about two gradients at every step."""


class Forward:
    """Real-time differentiation of the unroll (Franceschi et al., "Forward and reverse gradient-based hyperparameter
    optimization", 2017). Memory does not depend on the horizon; time and memory are proportional to the number of
    learned numbers, so it is for policies with a few.

    Args:
        chunk: tasks side by side.
    """

    def __init__(self, chunk: int = 64) -> None:
        self.chunk = chunk
        self._tangents = PerPolicy(lambda policy, objective: _Tangents(Program(policy, objective)))

    def __call__(
        self, policy: Policy, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
    ) -> Hypergradients:
        """See `HypergradientMethod`.

        Raises:
            ConfigError: the policy has more than 512 numbers.
        """
        check_numbers(sum(p.numel() for p in policy.parameters()))
        tangents = self._tangents(policy, objective)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            directions = torch.eye(len(group.hyper), dtype=group.hyper.dtype, device=group.hyper.device)
            carry, moved = tangents.enter(group.hyper, directions, group.data.noise)
            support_loss = carry.new_zeros(len(carry))
            for step in range(horizon):
                carry, moved, support_loss = tangents.advance(group.hyper, directions, carry, moved, step, *group.data)
            grads, loss, accuracy = tangents.finish(carry, moved, *group.query)
            return grads, loss, accuracy, support_loss

        return in_groups(tangents.program, tasks, draws, self.chunk, differentiate)


def check_numbers(numbers: int) -> None:
    """Raises ConfigError where a policy has too many numbers for a tangent of each."""
    if numbers > MOST_NUMBERS:
        raise ConfigError(
            f"inner.hypergradient=forward carries a tangent for each of the policy's numbers, at most {MOST_NUMBERS}, "
            f"and this policy has {numbers}; choose mixed or checkpointing, or a coarser granularity"
        )


class _Tangents:
    """The unroll's pieces with their derivatives by each of the policy's numbers, for tasks side by side."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def enter(self, hyper: Tensor, directions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What tasks carry at first, [tasks, carry], and how each number moves it, [tasks, numbers, carry]."""

        def begin(draws: Tensor) -> tuple[Tensor, Tensor]:
            def by(direction: Tensor) -> tuple[Tensor, Tensor]:
                return jvp(lambda own: self.program.begin(self.program.read(own), draws), (hyper,), (direction,))

            carry, moved = torch.func.vmap(by)(directions)
            return carry[0], moved

        return side_by_side(begin, len(noise))(noise)

    def advance(
        self,
        hyper: Tensor,
        directions: Tensor,
        carry: Tensor,
        moved: Tensor,
        step: Step,
        noise: Tensor,
        x: Tensor,
        y: Tensor,
        order: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One inner step: what tasks carry after it, how each number moves it, and the support losses before it."""

        def one_task(now: Tensor, moves: Tensor, *data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            def train(own: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
                return self.program.advance(self.program.read(own), carried, Data(*data), step)

            def by(direction: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                (after, loss), (after_moved, _) = jvp(train, (hyper, now), (direction, move))
                return after, after_moved, loss

            after, after_moved, loss = torch.func.vmap(by)(directions, moves)
            return after[0], after_moved, loss[0]

        return side_by_side(one_task, len(carry))(carry, moved, noise, x, y, order)

    def finish(self, carry: Tensor, moved: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of the query losses by each number, [tasks, numbers]; the losses; the accuracies."""
        with torch.enable_grad():
            leaf = carry.detach().requires_grad_()
            loss, accuracy = side_by_side(self.program.score, len(carry))(leaf, x, y)
            (by_carry,) = torch.autograd.grad(loss.sum(), (leaf,))
        return torch.einsum("tnc,tc->tn", moved, by_carry), loss.detach(), accuracy.detach()
