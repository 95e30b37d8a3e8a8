"""Hypergradients in reverse mode through the whole unroll, all tasks side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metaopt.inner.compile import Compiler, Eager
from metaopt.inner.draws import Draws
from metaopt.inner.examine import needs_of
from metaopt.inner.groups import Group, PerPolicy, in_groups
from metaopt.inner.hypergradient import Hypergradients
from metaopt.inner.program import Data, Program, side_by_side
from metaopt.inner.unroll import constant_gradient, exact_gradient, unroll
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.policies.rule import LossNoise, Start
from metaopt.types import Batch, TaskBatch


class Reverse:
    """Backpropagation through the graph of all inner steps. Memory grows with the horizon.

    Args:
        first_order: take the gradients of the support loss as constants (first-order MAML; Finn et al., 2017): cheaper,
            and biased. Quantities of the update rule still get a hypergradient.
        chunk: tasks side by side; the chunks of a meta-batch follow one another. Convolutions on a CPU want few,
            because each task brings weights of its own; small matrix products want many.
        compiler: compiles the whole unroll as one function, for a horizon of a few steps.
    """

    def __init__(self, first_order: bool = False, chunk: int = 64, compiler: Compiler | None = None) -> None:
        compiler = compiler or Eager()
        self.chunk = chunk
        self._first_order = first_order
        self._workers = compiler.workers
        self._whole = PerPolicy(lambda policy, objective: _Whole(Program(policy, objective), first_order, compiler))

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
        needs = needs_of(policy, objective, tasks, draws, "first" if self._first_order else "second", "call")
        whole = self._whole(policy, objective)
        function = whole.function(horizon, summed)

        def differentiate(group: Group) -> tuple[Tensor, ...]:
            return function(group.hyper, *group.data, *group.query)

        return in_groups(whole.program, policy.span, tasks, draws, self.chunk, differentiate, needs, self._workers)


class _Whole:
    """The hypergradient as one function for each horizon."""

    def __init__(self, program: Program, first_order: bool, compiler: Compiler) -> None:
        self.program = program
        self._first_order = first_order
        self._compiler = compiler
        self._functions: dict[tuple[int, bool], Any] = {}

    def function(self, horizon: int, summed: bool) -> Any:
        """(numbers, fields of `Data`, query x, query y) -> hypergradients, losses, accuracies, support losses."""
        if (horizon, summed) not in self._functions:
            self._functions[horizon, summed] = self._compiler(self._differentiated(horizon, summed))
        return self._functions[horizon, summed]

    def _differentiated(self, horizon: int, summed: bool) -> Any:
        gradient = constant_gradient if self._first_order else exact_gradient
        objective = self.program.objective

        def train(own: Tensor, *tensors: Any) -> tuple[Tensor, Tensor, Tensor]:
            data, query = Data(*tensors[:-2]), Batch(*tensors[-2:])
            named, draws = self.program.hyper.unpack(own), self.program.params.unpack(data.noise)
            start: Start = torch.func.functional_call(self.program.policy, named, (draws, data.span))
            support, noise = Batch(data.x, data.y), LossNoise(data.bank, data.present, data.seed)
            params, support_loss = unroll(start, objective.loss, support, data.order, horizon, noise, gradient)
            loss, accuracy = objective.outer(params, query)
            return loss, accuracy, support_loss

        def differentiated(hyper: Tensor, *data: Tensor | None) -> tuple[Tensor, ...]:
            # A leaf for each task gives each task its own hypergradient in one backward pass.
            n_tasks = len(data[0])  # type: ignore[arg-type]
            own = (hyper if summed else hyper.expand(n_tasks, -1)).detach().requires_grad_()
            with torch.enable_grad():
                loss, accuracy, support_loss = side_by_side(train, n_tasks, summed)(own, *data)
                (grads,) = torch.autograd.grad(loss.sum(), (own,))
            return grads, loss.detach(), accuracy.detach(), support_loss.detach()

        return differentiated
