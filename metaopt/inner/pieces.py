"""What the sweeps through a training are made of: five functions of tensors, for tasks side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from metaopt.inner.compile import Compiler
from metaopt.inner.jvp import jvp
from metaopt.inner.program import Data, Program, Step, side_by_side

SecondDerivative: TypeAlias = Literal["reverse", "forward", "none"]
"""How a step's backward pass gets its Hessian-vector product: by reverse mode over reverse mode, by forward mode over
reverse mode, or not at all (first order)."""


class Pieces:
    """The steps of a sweep forth and back. All tensors are flat, and nothing keeps a graph.

    The backward pass of a step is its own vector-Jacobian product, through the rule and, by one Hessian-vector product,
    through the loss: the decomposition of MixFlow-MG (Kemaev et al., "Scalable Meta-Learning via Mixed-Mode
    Differentiation", 2025).

    Args:
        program: the training.
        second: see `SecondDerivative`.
        compiler: what makes the functions fast, or leaves them.
        summed: whether derivatives by what all tasks share are summed over the tasks. Below, [*rows] is a dimension
            [tasks] where they are kept apart, and none where they are summed.
    """

    def __init__(self, program: Program, second: SecondDerivative, compiler: Compiler, summed: bool = False) -> None:
        self.program = program
        self._second = second
        self.summed = summed
        self.steps: Callable[[int], list[Step]] = compiler.steps
        self.enter = compiler(self._enter)
        self.advance = compiler(self._advance)
        self.finish = compiler(self._finish)
        self.back = compiler(self._back)
        self.leave = compiler(self._leave)

    def _enter(self, hyper: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """([numbers], [tasks, parameters]) -> ([values], what the tasks carry at first, [tasks, carry])."""
        values = self.program.read(hyper)
        begin = side_by_side(lambda draws: self.program.begin(values, draws), len(noise))
        return values, begin(noise).contiguous()  # where all tasks start alike, they would share one row of memory

    def _advance(self, values: Tensor, carry: Tensor, step: Step, *data: Tensor | None) -> tuple[Tensor, Tensor]:
        """One inner step: ([tasks, carry], support losses before it, [tasks])."""
        function = side_by_side(lambda now, *task: self.program.advance(values, now, Data(*task), step), len(carry))
        return function(carry, *data)

    def _finish(self, carry: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `query_derivatives`."""
        return query_derivatives(self.program, carry, x, y)

    def _back(
        self,
        values: Tensor,
        carry: Tensor,
        step: Step,
        cotangent: Tensor,
        collected: Tensor,
        *data: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Takes derivatives by what is carried after a step to those by what is carried before it.

        Args:
            values: [values].
            carry: before the step, [tasks, carry].
            step: the step.
            cotangent: derivative of each query loss by what is carried after the step, [tasks, carry].
            collected: derivatives by the values from later steps, [*rows, values].
            data: the fields of `Data`.

        Returns:
            The derivatives by what is carried before, and by the values including this step's share.
        """

        learned, before = _leaves(self._for_each(values, len(carry)), carry)
        if self._second == "reverse":
            by_values, by_carry = self._through_step(learned, before, step, cotangent, data)
        else:
            by_values, by_carry = self._through_update_and_loss(learned, before, step, cotangent, data)
        return by_carry, collected + by_values

    def _through_step(
        self, learned: Tensor, before: Tensor, step: Step, cotangent: Tensor, data: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor]:
        """Derivatives by the values and by what was carried, in reverse mode over reverse mode."""

        def advance(own: Tensor, now: Tensor, *task: Any) -> Tensor:
            return self.program.advance(own, now, Data(*task), step)[0]

        with torch.enable_grad():
            after = side_by_side(advance, len(before), self.summed)(learned, before, *data)
            return torch.autograd.grad(after, (learned, before), cotangent, materialize_grads=True)  # type: ignore[return-value]

    def _through_update_and_loss(
        self, learned: Tensor, before: Tensor, step: Step, cotangent: Tensor, data: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor]:
        """The same with update and gradient differentiated apart, the gradient in forward mode if at all."""
        n_tasks, n_params = len(before), self.program.params.size
        whole = self.program.enters_loss  # whether the gradient may depend on the values

        def gradient_and_loss(own: Tensor, params: Tensor, *task: Any) -> tuple[Tensor, Tensor]:
            return self.program.gradient(own, params, Data(*task), step)

        def slopes(own: Tensor, params: Tensor, *task: Any) -> tuple[Tensor, ...]:
            """Derivatives of the loss by the parameters, the last, and before it by the values if they enter it."""
            if whole:
                return self.program.slopes(own, params, Data(*task), step)
            return gradient_and_loss(own, params, *task)[:1]

        def through_loss(
            own: Tensor, params: Tensor, by_gradient: Tensor, by_loss: Tensor, *task: Any
        ) -> tuple[Tensor, ...]:
            # Mixed derivatives may be taken in either order: along the parameters, those by the values move as well.
            found, moved = jvp(lambda p: slopes(own, p, *task), (params,), (by_gradient,))
            return tuple(move + by_loss * slope for move, slope in zip(moved, found, strict=True))

        def update(own: Tensor, now: Tensor, grads: Tensor, loss: Tensor, *task: Any) -> Tensor:
            return self.program.update(own, now, grads, loss, Data(*task), step)

        values, params = learned.detach(), before.detach()[:, :n_params]
        found, loss = _leaves(*side_by_side(gradient_and_loss, n_tasks, self.summed)(values, params, *data))
        with torch.enable_grad():
            after = side_by_side(update, n_tasks, self.summed)(learned, before, found, loss, *data)
            by_values, by_carry, by_gradient, by_loss = torch.autograd.grad(
                after, (learned, before, found, loss), cotangent, materialize_grads=True
            )
        if whole or self._second == "forward":
            both = side_by_side(through_loss, n_tasks, self.summed)(values, params, by_gradient, by_loss, *data)
            *by_own, by_params = (each.detach() for each in both)
            for each in by_own:
                by_values = by_values + (each.sum(0) if self.summed else each)
            if self._second == "forward":
                by_carry = by_carry + torch.nn.functional.pad(by_params, (0, before.shape[1] - n_params))
        return by_values, by_carry

    def _leave(self, hyper: Tensor, noise: Tensor, cotangent: Tensor, collected: Tensor) -> Tensor:
        """Derivatives by the policy's parameters, [*rows, numbers], from those by values and by the beginning."""

        def beginning(own: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
            values = self.program.read(own)
            return values, self.program.begin(values, draws)

        with torch.enable_grad():
            (own,) = _leaves(self._for_each(hyper, len(noise)))
            values, carry = side_by_side(beginning, len(noise), self.summed)(own, noise)
            # All tasks have the same values: where derivatives are summed, they belong to any one of them.
            pairs = [(values[0], collected) if self.summed else (values, collected), (carry, cotangent)]
            outputs, cotangents = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
            (by_hyper,) = torch.autograd.grad(outputs, (own,), cotangents)
        return by_hyper

    def _for_each(self, shared: Tensor, n_tasks: int) -> Tensor:
        """What derivatives are taken by: a copy for each task keeps the tasks apart."""
        return shared if self.summed else shared.expand(n_tasks, -1)


def query_derivatives(program: Program, carry: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivative of each query loss by what its task carries, [tasks, carry]; the losses; the accuracies."""
    (leaf,) = _leaves(carry)
    with torch.enable_grad():
        loss, accuracy = side_by_side(program.score, len(carry))(leaf, x, y)
        (cotangent,) = torch.autograd.grad(loss.sum(), (leaf,))
    return cotangent, loss.detach(), accuracy.detach()


def _leaves(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().requires_grad_() for tensor in tensors)
