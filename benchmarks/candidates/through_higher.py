"""higher: a patched module and a differentiable optimizer for each task in turn, as in its own MAML example.

Its differentiable SGD takes learning rates that are tensors but no such weight decay, so that the inner step is
registered here as an optimizer of its own, which is higher's documented way.
"""

from __future__ import annotations

from typing import Any

import higher
import torch
from higher.optim import DifferentiableOptimizer
from torch import nn
from workloads import Arrays, Workload

from candidates.torch_peer import TorchPeer, learned, loss, network, tasks


class RatedSGD(torch.optim.SGD):
    """Stands for `DifferentiableRatedSGD` where higher wants a torch optimizer."""


class DifferentiableRatedSGD(DifferentiableOptimizer):
    """θ − lr ⊙ (g + l2 ⊙ θ), each parameter tensor a group of its own."""

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        for group, (g,) in zip(self.param_groups, grouped_grads, strict=True):
            (p,) = group["params"]
            decayed = g if group["l2"] is None else g + group["l2"] * p
            group["params"] = [p - group["lr"] * decayed]


higher.register_optim(RatedSGD, DifferentiableRatedSGD)


class ThroughHigher(TorchPeer):
    """See `Candidate`."""

    def __init__(self, workload: Workload, arrays: Arrays, device: str = "cpu") -> None:
        super().__init__(workload, learned(workload, arrays, device))
        self._tasks = tasks(workload, arrays, device)
        self._module = network(workload).to(device)
        if workload.learned_init:
            for name in workload.shapes:
                layer, _, kind = name.rpartition(".")
                setattr(self._module.get_submodule(layer), kind, self._hyper[f"init.{name}"])
        self._sgd = RatedSGD([{"params": [p]} for p in self._module.parameters()], lr=workload.lr)

    def _differentiate(self) -> None:
        workload = self._workload
        for task in self._tasks:
            if task.start is not None:
                self._module.load_state_dict(task.start)
            with higher.innerloop_ctx(
                self._module,
                self._sgd,
                copy_initial_weights=not workload.learned_init,
                override={"lr": self._strengths("lr"), "l2": self._strengths("l2")},
            ) as (fmodel, optimizer):
                for step in range(workload.steps):
                    x, y = task.batch(step)
                    optimizer.step(loss(workload, fmodel(x), y))
                (loss(workload, fmodel(task.query_x), task.query_y) / workload.tasks).backward()

    def _strengths(self, kind: str) -> list[Any]:
        logs = [self._hyper.get(f"{kind}.{name}") for name in self._workload.shapes]
        return [log.exp() if isinstance(log, nn.Parameter) else None for log in logs]


def build(workload: Workload, arrays: Arrays, variant: str | None, device: str = "cpu") -> ThroughHigher:
    """See `candidates.build`; there is one variant."""
    assert variant is None, "higher has no variants"
    return ThroughHigher(workload, arrays, device)
