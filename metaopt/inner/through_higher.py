"""The same unroll through the `higher` package: an independent oracle, and the way in for torch's own optimizers."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import higher
import torch
from higher.optim import DifferentiableOptimizer
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.examine import needs_of
from metaopt.inner.hypergradient import Hypergradients, hypergradients_of
from metaopt.inner.unroll import minibatch, step_loss
from metaopt.models.model import Hidden, Model, intercepted
from metaopt.models.objective import Objective, Outer, objective_of
from metaopt.models.running import plain_kernels
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Start, UpdateRule
from metaopt.trees import stacked, take_tasks
from metaopt.types import Batch, Kind, Loss, Params, TaskBatch


class RuleOptimizer(DifferentiableOptimizer):
    """An update rule as one of higher's differentiable optimizers.

    Args:
        rule: the rule.
        params: θ₀ by name; `step` takes and returns parameters in this order.
        fmodel: higher's functional model, whose fast weights each step replaces.
        track: keep the graph through the steps.
    """

    def __init__(self, rule: UpdateRule, params: Params, fmodel: Any, track: bool = True) -> None:
        leaves = [nn.Parameter(p.detach()) for p in params.values()]
        super().__init__(torch.optim.SGD(leaves, lr=1.0), leaves, fmodel=fmodel, track_higher_grads=track)
        self._rule = rule
        self._names = list(params)
        self._memory = rule.init(params)
        self._step = 0
        self.loss: Tensor | None = None
        """What the next step sees, for rules that read it."""

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        group = self.param_groups[0]
        params = dict(zip(self._names, group["params"], strict=True))
        grads = dict(zip(self._names, grouped_grads[0], strict=True))
        new, self._memory = self._rule.update(params, grads, self._memory, self._step, self.loss)
        self._step += 1
        group["params"] = [new[name] for name in self._names]


class ThroughHigher:
    """Reverse mode through higher's loop, task by task, with torch.autograd instead of torch.func.

    Args:
        model: the model; higher makes its module functional.
        kind: classification or regression.
        first_order: take the gradients of the support loss as constants.
        padded, outer: see `objective_of`.
    """

    def __init__(
        self, model: Model, kind: Kind, first_order: bool = False, padded: bool = False, outer: Outer = "loss"
    ) -> None:
        self._first_order = first_order
        self._names = list(model.shapes)
        self._model = model
        self._objective_of = partial(objective_of, kind=kind, padded=padded, outer=outer)

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
        needs = needs_of(policy, objective, tasks, draws, "second", "call")
        module = self._model.module
        if needs.draws or any(True for _ in module.buffers()) or not all(p.requires_grad for p in module.parameters()):
            raise ConfigError(
                "inner.engine=higher takes modules of trained parameters only, but this one draws random numbers, or "
                "has buffers or frozen parameters; use inner.engine=metaopt"
            )
        # Else higher runs the module itself, so that not even the model's forward pass is shared.
        draws = needs.given(draws)
        results = [
            self._one_task(policy, take_tasks(tasks, i), take_draws(draws, i), horizon)
            for i in range(tasks.support.x.shape[0])
        ]
        grads, *scores = zip(*results, strict=True)
        found = hypergradients_of(stacked(grads), *(torch.stack(score) for score in scores))
        return found._replace(flat=found.flat.sum(0, keepdim=True)) if summed else found

    def _one_task(
        self, policy: Policy, task: TaskBatch, draws: Draws, horizon: int
    ) -> tuple[Params, Tensor, Tensor, Tensor]:
        hyper = {name: p.detach().requires_grad_() for name, p in policy.named_parameters()}
        with torch.enable_grad():
            start: Start = torch.func.functional_call(policy, hyper, (draws.noise,))
            # Gradients are asked of θ₀ even where it is only noise, and at first a constant.
            params = {n: p if p.requires_grad else p.requires_grad_() for n, p in start.params.items()}
            fmodel: Any = higher.patch.make_functional(self._model.module)
            fmodel.update_params([params[name] for name in self._names])

            habits = self._model.habits

            def apply(fast: Params, x: Tensor, hidden: Hidden | None = None) -> Tensor:
                with (
                    plain_kernels(habits.refuses_fused),
                    nullcontext() if hidden is None else intercepted(fmodel, hidden),
                ):
                    return fmodel(x, params=list(fast.values()))

            functional = self._objective_of(apply)
            optimizer = RuleOptimizer(start.rule, params, fmodel)
            support_loss = next(iter(params.values())).new_zeros(())
            for step in range(horizon):
                fast = dict(zip(self._names, fmodel.parameters(), strict=True))
                batch = minibatch(task.support, draws.order, step)
                loss = step_loss(functional.loss, start.inner, draws.loss, step)
                constant = _with_constant_params(loss, fast, batch) if self._first_order else None
                support_loss = loss(fast, batch)  # the last call, since the model takes its parameters for its own
                optimizer.loss = support_loss if constant is None else constant[1]
                optimizer.step(support_loss, grad_callback=constant and (lambda _, constant=constant: constant[0]))
            fast = dict(zip(self._names, fmodel.parameters(), strict=True))
            loss, accuracy = functional.outer(fast, task.query)
            grads = torch.autograd.grad(loss, list(hyper.values()), materialize_grads=True, allow_unused=True)
        return dict(zip(hyper, grads, strict=True)), loss.detach(), accuracy.detach(), support_loss.detach()


def _with_constant_params(loss: Loss, params: Params, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Gradient and loss where the parameters are constants, and only what enters the loss is not."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    value = loss(leaves, batch)
    return list(torch.autograd.grad(value, list(leaves.values()), create_graph=True)), value
