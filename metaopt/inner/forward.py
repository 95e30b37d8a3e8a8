"""Hypergradients in forward mode: a tangent for each of the policy's numbers, and no memory of the steps behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.examine import needs_of
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.jvp import jvp
from metaopt.inner.pieces import query_derivatives
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
        compiler: compiles a step with its tangents, whatever the horizon; None: not compiled.
    """

    def __init__(self, chunk: int = 64, compiler: Compiler | None = None) -> None:
        self.chunk = chunk
        self._tangents = PerPolicy(lambda policy, own: _Tangents(Program(policy, own), compiler or Eager()))

    def __call__(
        self,
        policy: Policy,
        objective: Objective,
        tasks: TaskBatch,
        draws: Draws,
        horizon: int,
        summed: bool = False,
    ) -> Hypergradients:
        """See `HypergradientMethod`.

        Raises:
            ConfigError: the policy has more than 512 numbers.
        """
        check_numbers(sum(p.numel() for p in policy.parameters()))
        needs = needs_of(policy, objective, tasks, draws, "forward", "values")
        if needs.forward is False:
            raise ConfigError(
                "hypergradient=forward needs derivatives in forward mode, which torch lacks for a layer of this model; "
                "choose mixed or checkpointing"
            )
        tangents = self._tangents(policy, objective)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            values, values_moved, carry, moved = tangents.enter(group.hyper, group.data.noise)
            support_loss = carry.new_zeros(len(carry))
            for step in tangents.steps(horizon):
                carry, moved, support_loss = tangents.advance(values, values_moved, carry, moved, step, *group.data)
            by_carry, loss, accuracy = query_derivatives(tangents.program, carry, *group.query)
            rule = "tnc,tc->n" if summed else "tnc,tc->tn"
            return torch.einsum(rule, moved, by_carry), loss, accuracy, support_loss

        return in_groups(tangents.program, policy.span, tasks, draws, self.chunk, differentiate, needs)


def check_numbers(numbers: int) -> None:
    """Raises ConfigError where a policy has too many numbers for a tangent of each."""
    if numbers > MOST_NUMBERS:
        raise ConfigError(
            f"inner.hypergradient=forward carries a tangent for each of the policy's numbers, at most {MOST_NUMBERS}, "
            f"and this policy has {numbers}; choose mixed or checkpointing, or a coarser granularity"
        )


class _Tangents:
    """The unroll's pieces with their derivatives by each of the policy's numbers, for tasks side by side."""

    def __init__(self, program: Program, compiler: Compiler) -> None:
        self.program = program
        self.steps: Callable[[int], list[Step]] = compiler.steps
        self.advance = compiler(self._advance)

    def enter(self, hyper: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Values and what tasks carry at first, and how each number moves them.

        Returns:
            [values], [numbers, values], [tasks, carry], [tasks, numbers, carry].
        """
        values = self.program.read(hyper)
        values_moved = torch.func.vmap(lambda direction: jvp(self.program.read, (hyper,), (direction,))[1])(
            torch.eye(len(hyper), dtype=hyper.dtype, device=hyper.device)
        )

        def begin(draws: Tensor) -> tuple[Tensor, Tensor]:
            def by(move: Tensor) -> tuple[Tensor, Tensor]:
                return jvp(lambda own: self.program.begin(own, draws), (values,), (move,))

            carry, moved = torch.func.vmap(by)(values_moved)
            return carry[0], moved

        carry, moved = side_by_side(begin, len(noise))(noise)
        return values, values_moved, carry, moved

    def _advance(
        self,
        values: Tensor,
        values_moved: Tensor,
        carry: Tensor,
        moved: Tensor,
        step: Step,
        *data: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One inner step: what tasks carry after it, how each number moves it, and the support losses before it."""

        def one_task(now: Tensor, moves: Tensor, *task: Any) -> tuple[Tensor, Tensor, Tensor]:
            def train(own: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
                return self.program.advance(own, carried, Data(*task), step)

            def by(value_move: Tensor, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                (after, loss), (after_moved, _) = jvp(train, (values, now), (value_move, move))
                return after, after_moved, loss

            after, after_moved, loss = torch.func.vmap(by, randomness="same")(values_moved, moves)
            return after[0], after_moved, loss[0]

        return side_by_side(one_task, len(carry))(carry, moved, *data)
