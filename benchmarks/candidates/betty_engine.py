"""Betty: an `IterativeProblem` for training and a problem above it for what is learned, run by its `Engine`.

Of Betty's hypergradients `darts`, `cg`, `neumann` and `reinforce` are approximations. The exact one is its iterative
differentiation: the upper problem has `first_order=False`, and the lower one keeps the graph of its steps. The inner
step with rates per parameter goes into `custom_optimizer_step`; tasks follow one another, and the upper problem
accumulates over them (`gradient_accumulation`).
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.problems import ImplicitProblem, IterativeProblem
from torch import Tensor, nn
from workloads import OUTER_LR, Arrays, Workload

from candidates.torch_peer import Task, learned, loss, network, tasks


class Learned(nn.Module):
    """What the upper problem learns, as a module with encoded names."""

    def __init__(self, hyper: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.values = nn.ParameterDict({name.replace(".", "/"): p for name, p in hyper.items()})

    def group(self, kind: str, names: list[str]) -> list[Tensor]:
        """The values of one kind in the order of the parameter tensors; empty where nothing of it is learned."""
        keys = [f"{kind}/{name.replace('.', '/')}" for name in names]
        return [self.values[key] for key in keys if key in self.values]


class Inner(IterativeProblem):
    """Training on the present task."""

    def prepare(self, workload: Workload, all_tasks: list[Task]) -> None:
        """Gives the problem its data; Betty fixes the constructor's arguments."""
        self.workload, self.tasks, self.names = workload, all_tasks, list(workload.shapes)
        self.index, self.step_in_task = -1, 0

    @property
    def task(self) -> Task:
        """The present one."""
        return self.tasks[self.index]

    def get_batch(self) -> tuple[Tensor, Tensor]:
        """The minibatch of the present step."""
        batch = self.task.batch(self.step_in_task)
        self.step_in_task += 1
        return batch

    def on_inner_loop_start(self) -> None:
        """The next task, at its initialisation."""
        self.index, self.step_in_task = (self.index + 1) % len(self.tasks), 0
        given: Learned = self.outer.module
        start = self.task.start
        if start is None:
            # Views, because the `.grad` of the leaves themselves is where the upper problem accumulates.
            self.params = tuple(p.view_as(p) for p in given.group("init", self.names))
        else:
            self.params = tuple(start[name].detach().requires_grad_() for name in self.names)
        self.lr = [log.exp() for log in given.group("lr", self.names)]
        self.l2 = [log.exp() for log in given.group("l2", self.names)]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs at the present parameters."""
        return self.fmodule(self.params, self.buffers, x)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Support loss."""
        return loss(self.workload, self(batch[0]), batch[1])

    def custom_optimizer_step(self) -> tuple[Tensor, ...]:
        """The inner step. Gradients are cleared, or they would tie the graph into a cycle that is never freed."""
        new = []
        for i, p in enumerate(self.params):
            g = p.grad
            new.append(p - self.lr[i] * (g + self.l2[i] * p if self.l2 else g))
            p.grad = None
        return tuple(new)


class Outer(ImplicitProblem):
    """The query loss as a function of what is learned."""

    update = True
    hypergradients: Arrays

    def get_batch(self) -> tuple[Tensor, Tensor]:
        """The query set of the task that the lower problem has just trained on."""
        task: Task = self.inner.task
        return task.query_x, task.query_y

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Query loss; Betty divides it by the number of tasks."""
        return loss(self.inner.workload, self.inner(batch[0]), batch[1])

    def custom_optimizer_step(self) -> None:
        """Adam's step, or none; keeps the hypergradients when asked for them."""
        if self.update:
            self.optimizer.step()
        else:
            values = self.module.values
            self.hypergradients = {k.replace("/", "."): p.grad.numpy().copy() for k, p in values.items()}


class Betty:
    """See `Candidate`."""

    def __init__(self, workload: Workload, arrays: Arrays) -> None:
        # Reading `.grad` of the unrolled parameters, as Betty does, and functorch's old names.
        warnings.simplefilter("ignore")
        self._workload = workload
        logging.disable(logging.INFO)
        module, given = network(workload), Learned(learned(workload, arrays))
        self._inner = Inner(
            "inner",
            Config(unroll_steps=workload.steps, retain_graph=True),
            module=module,
            optimizer=torch.optim.SGD(module.parameters(), lr=workload.lr),
            device="cpu",
        )
        self._inner.prepare(workload, tasks(workload, arrays))
        self._outer = Outer(
            "outer",
            Config(first_order=False, gradient_accumulation=workload.tasks),
            module=given,
            optimizer=torch.optim.Adam(given.parameters(), lr=OUTER_LR, fused=True),
            device="cpu",
        )
        below, above = {self._outer: [self._inner]}, {self._inner: [self._outer]}
        steps = workload.tasks * workload.steps
        self._engine = Engine(
            problems=[self._outer, self._inner],
            config=EngineConfig(train_iters=steps, valid_step=steps + 1),
            dependencies={"u2l": below, "l2u": above},
        )

    def hypergradients(self) -> Arrays:
        """See `Candidate`."""
        self._outer.update = False
        self._engine.run()
        return self._outer.hypergradients

    def iteration(self) -> None:
        """See `Candidate`."""
        self._outer.update = self._workload.outer_update
        self._engine.run()


def build(workload: Workload, arrays: Arrays, variant: str | None) -> Any:
    """See `candidates.build`; there is one variant."""
    assert variant is None, "Betty has no variants"
    return Betty(workload, arrays)
