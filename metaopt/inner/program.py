"""Training one task as pure functions of flat vectors, and the same for tasks side by side.

What a task carries from step to step is one vector, [carry]: its parameters and the update rule's memory. What the
policy has learned is another, [values], and so are the policy's own parameters, [numbers]. Few arguments with fixed
strides are what makes a step quick to store, to compile and to call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from metaopt.inner.unroll import exact_gradient, inner_step, minibatch, step_loss
from metaopt.layout import Layout
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy, Values
from metaopt.policies.rule import LossNoise
from metaopt.types import Batch, Loss, Params

Step: TypeAlias = "int | Tensor"


class Data(NamedTuple):
    """What the inner loop of some tasks reads, and never changes.

    Attributes:
        noise: standard normal draws, flat, [tasks, parameters].
        x: support inputs, [tasks, support, *input].
        y: support targets, [tasks, support, ...].
        order: minibatch of each step, [tasks, steps, batch]; None: always the whole support set.
        span: how many steps the policy takes each training to last, int64 [tasks]. An argument and no constant, so that
            what was compiled serves every length.
        bank, present, seed: see `LossNoise`, [tasks, *].
    """

    noise: Tensor
    x: Tensor
    y: Tensor
    order: Tensor | None
    span: Tensor
    bank: Tensor | None = None
    present: Tensor | None = None
    seed: Tensor | None = None


class Program:
    """The pieces of training and differentiating, for one policy's structure and one objective.

    Args:
        policy: gives the structure; its parameters' values, and its span, are arguments of the functions.
        objective: losses and scores of the model.

    Attributes:
        hyper: layout of the policy's parameters.
        values: layout of what they stand for.
        params: layout of the model's parameters.
        carry: layout of what a task carries.
        enters_loss: whether the policy makes something of the inner loss, which may then depend on the values.
    """

    def __init__(self, policy: Policy, objective: Objective) -> None:
        self.policy = policy
        self._parameters = list(policy.parameters())
        self.objective = objective
        self._zeros = torch.zeros(0)
        own = {name: p.detach() for name, p in policy.named_parameters()}
        self.hyper = Layout.of(own)
        self.params = Layout({name: policy.shapes[name] for name in policy.shapes})
        example = next(iter(own.values()))
        with torch.no_grad():
            values = policy.values()
            noise = {name: example.new_zeros(shape) for name, shape in policy.shapes.items()}
            start = policy.start(noise, values)
            self.values = Layout.of(values)
            self.enters_loss = policy.inner_loss(values) is not None
            self.carry = Layout.of({"params": start, "state": policy.rule(noise, values).init(start)})

    def noise_vectors(self, noise: Params) -> Tensor:
        """Draws [tasks, *shape] by name as [tasks, parameters]; zeros where the policy learns where training starts."""
        if self.policy.settings.init.mode != "learned":
            return self.params.pack(noise, 1)
        n_tasks = len(next(iter(noise.values())))
        if len(self._zeros) < n_tasks:
            example = next(iter(noise.values()))
            self._zeros = example.new_zeros(n_tasks, self.params.size)
        return self._zeros[:n_tasks]

    def hyper_vector(self) -> Tensor:
        """The policy's present parameters, flat and cut from the graph, [numbers]; not to be changed in place."""
        whole = self.policy.vector
        if whole is not None and whole.data_ptr() == self._parameters[0].data_ptr():
            return whole
        return torch.cat([p.detach().reshape(-1) for p in self._parameters])

    # One task --------------------------------------------------------------------------------------------------------

    def read(self, hyper: Tensor) -> Tensor:
        """[numbers] -> [values]."""
        own = self.hyper.unpack(hyper)
        return self.values.pack(torch.func.functional_call(_Values(self.policy), _inside(own), ()))

    def begin(self, values: Tensor, noise: Tensor) -> Tensor:
        """What a task carries before the first step, [carry]."""
        learned, draws = self.values.unpack(values), self.params.unpack(noise)
        start = self.policy.start(draws, learned)
        return self.carry.pack({"params": start, "state": self.policy.rule(draws, learned).init(start)})

    def gradient(self, values: Tensor, params: Tensor, data: Data, step: Step) -> tuple[Tensor, Tensor]:
        """Gradient of the support loss of a step, [parameters], and that loss; `params` flat, [parameters]."""
        loss = self._loss(self.values.unpack(values), data, step)
        grads, value = exact_gradient(loss)(self.params.unpack(params), _batch(data, step))
        return self.params.pack(grads), value

    def slopes(self, values: Tensor, params: Tensor, data: Data, step: Step) -> tuple[Tensor, Tensor]:
        """Derivatives of the support loss of a step by the values, [values], and by the parameters, [parameters]."""

        def loss(own: Tensor, now: Tensor) -> Tensor:
            return self._loss(self.values.unpack(own), data, step)(self.params.unpack(now), _batch(data, step))

        return torch.func.grad(loss, (0, 1))(values, params)

    def _loss(self, learned: Values, data: Data, step: Step) -> Loss:
        inner = self.policy.inner_loss(learned)
        return step_loss(self.objective.loss, inner, LossNoise(data.bank, data.present, data.seed), step)

    def update(self, values: Tensor, carry: Tensor, grads: Tensor, loss: Tensor, data: Data, step: Step) -> Tensor:
        """What the task carries after the rule's update, [carry], given what `gradient` found."""
        learned, draws = self.values.unpack(values), self.params.unpack(data.noise)
        now = self.carry.unpack(carry)
        rule = self.policy.rule(draws, learned, data.span)
        params, state = rule.update(now["params"], self.params.unpack(grads), now["state"], step, loss)
        return self.carry.pack({"params": params, "state": state})

    def advance(self, values: Tensor, carry: Tensor, data: Data, step: Step) -> tuple[Tensor, Tensor]:
        """One inner step: what the task carries after it, and the support loss before it."""
        learned, draws = self.values.unpack(values), self.params.unpack(data.noise)
        now = self.carry.unpack(carry)
        rule = self.policy.rule(draws, learned, data.span)
        gradient = exact_gradient(self._loss(learned, data, step))
        params, state, loss = inner_step(gradient, rule, now["params"], now["state"], _batch(data, step), step)
        return self.carry.pack({"params": params, "state": state}), loss

    def score(self, carry: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Outer objective and accuracy of what the task carries on other examples."""
        return self.objective.outer(self.carry.unpack(carry)["params"], Batch(x, y))


class _Values(torch.nn.Module):
    """A policy's `values` as a module's call, which is what can be made a function of its parameters."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self) -> dict[str, dict[str, Tensor]]:
        return self.policy.values()


def _inside(own: Params) -> Params:
    return {f"policy.{name}": tensor for name, tensor in own.items()}


def _batch(data: Data, step: Step) -> Batch:
    return minibatch(Batch(data.x, data.y), data.order, step)


def side_by_side(function: Callable[..., Any], n_tasks: int, shared: int = 0) -> Callable[..., Any]:
    """A function of one task's tensors as a function of many tasks', each with a leading dimension; None stays None.

    A single task goes without `vmap`, because weights of its own turn a convolution into a grouped one.

    Args:
        function: pure; returns a tensor or a tuple of them.
        n_tasks: how many there are.
        shared: so many arguments at the front are the same for all tasks, without a leading dimension. Derivatives by
            them are sums over the tasks, which costs less than keeping the tasks apart.
    """

    def together(*arguments: Tensor | None) -> Any:
        of_all, of_each = arguments[:shared], arguments[shared:]
        if n_tasks == 1:
            results = function(*of_all, *(None if a is None else a[0] for a in of_each))
            return results[None] if isinstance(results, Tensor) else tuple(result[None] for result in results)
        dims = (None,) * len(of_all) + tuple(None if a is None else 0 for a in of_each)
        return torch.func.vmap(function, in_dims=dims)(*arguments)

    return together
