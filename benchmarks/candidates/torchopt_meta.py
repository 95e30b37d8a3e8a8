"""TorchOpt: its functional API, with a gradient transformation of the user's own.

`torchopt.sgd` and `torchopt.MetaSGD` take one number as learning rate and one as weight decay. With rates per parameter
the inner step is therefore a `GradientTransformation`, applied by `torchopt.apply_updates`, as TorchOpt's functional
examples do. Small networks run all tasks side by side under `torch.func.vmap`; convolutions are faster task by task
(variants `vmap` and `loop`).
"""

from __future__ import annotations

from typing import Any

import torch
import torchopt
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torchopt.base import EmptyState, GradientTransformation
from workloads import Arrays, Workload

from candidates.torch_peer import TorchPeer, learned, loss, network, tasks

Tensors = dict[str, Tensor]


def rated_sgd(lr: Tensors, l2: Tensors) -> GradientTransformation:
    """−lr ⊙ (g + l2 ⊙ θ) by parameter tensor; an empty `l2` is none at all."""

    def init(_: Any) -> EmptyState:
        return EmptyState()

    def update(updates: Any, state: Any, *, params: Any = None, inplace: bool = True) -> tuple[Any, Any]:
        assert not inplace, "a differentiable step is out of place"
        decayed = {name: g + l2[name] * params[name] if l2 else g for name, g in updates.items()}
        return {name: -(lr[name] * g) for name, g in decayed.items()}, state

    return GradientTransformation(init, update)


class TorchOpt(TorchPeer):
    """See `Candidate`."""

    def __init__(self, workload: Workload, arrays: Arrays, side_by_side: bool) -> None:
        super().__init__(workload, learned(workload, arrays))
        self._side_by_side = side_by_side
        self._module = network(workload)
        self._tasks = tasks(workload, arrays)
        self._stacked = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _differentiate(self) -> None:
        if self._side_by_side:
            self._all_at_once()
        else:
            self._one_by_one()

    def _all_at_once(self) -> None:
        stacked, names = self._stacked, self._workload.shapes
        optimizer = rated_sgd(self._strengths("lr"), self._strengths("l2"))
        order = stacked.get("order")
        sets = (stacked[name] for name in ("support_x", "support_y", "query_x", "query_y"))
        if self._workload.learned_init:
            start, start_dim = self._group("init"), None
        else:
            start, start_dim = {name: stacked[f"start.{name}"] for name in names}, 0

        def task_loss(start: Tensors, order: Tensor | None, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Tensor:
            params, state = start, optimizer.init(start)
            for step in range(self._workload.steps):
                batch = (sx, sy) if order is None else (sx[order[step]], sy[order[step]])
                grads = grad(self._loss)(params, *batch)
                updates, state = optimizer.update(grads, state, params=params, inplace=False)
                params = torchopt.apply_updates(params, updates, inplace=False)
            return self._loss(params, qx, qy)

        losses = vmap(task_loss, (start_dim, None if order is None else 0, 0, 0, 0, 0))(start, order, *sets)
        losses.mean().backward()

    def _one_by_one(self) -> None:
        for task in self._tasks:
            optimizer = rated_sgd(self._strengths("lr"), self._strengths("l2"))
            params = self._group("init") if task.start is None else task.start
            params = {name: p if p.requires_grad else p.detach().requires_grad_() for name, p in params.items()}
            state = optimizer.init(params)
            for step in range(self._workload.steps):
                support = self._loss(params, *task.batch(step))
                found = torch.autograd.grad(support, list(params.values()), create_graph=True)
                grads = dict(zip(params, found, strict=True))
                updates, state = optimizer.update(grads, state, params=params, inplace=False)
                params = torchopt.apply_updates(params, updates, inplace=False)
            (self._loss(params, task.query_x, task.query_y) / self._workload.tasks).backward()

    def _loss(self, params: Tensors, x: Tensor, y: Tensor) -> Tensor:
        return loss(self._workload, functional_call(self._module, params, (x,)), y)

    def _group(self, kind: str) -> Tensors:
        found = {name: self._hyper.get(f"{kind}.{name}") for name in self._workload.shapes}
        return {name: value for name, value in found.items() if value is not None}

    def _strengths(self, kind: str) -> Tensors:
        return {name: log.exp() for name, log in self._group(kind).items()}


def build(workload: Workload, arrays: Arrays, variant: str | None) -> TorchOpt:
    """See `candidates.build`; the variant is `vmap` or `loop`, by default the faster."""
    assert variant in (None, "vmap", "loop"), f"TorchOpt has no variant {variant}"
    return TorchOpt(workload, arrays, (variant or ("vmap" if workload.model == "mlp" else "loop")) == "vmap")
