"""What the peers that run on torch share: a plain module, its loss, and the arrays as tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from workloads import CHANNELS, CONV_BLOCKS, OUTER_LR, Arrays, Workload


def network(workload: Workload) -> nn.Sequential:
    """The workload's network out of torch's own layers."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if workload.model == "mlp":
        sizes = [*workload.input_shape, *workload.widths]
        for i, (size_in, size_out) in enumerate(pairwise(sizes)):
            layers |= {f"hidden{i}": nn.Linear(size_in, size_out), f"relu{i}": nn.ReLU()}
        return nn.Sequential(layers | {"output": nn.Linear(sizes[-1], workload.outputs)})
    channels = workload.input_shape[0]
    for i in range(CONV_BLOCKS):
        layers[f"conv{i}"] = nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
        layers |= {f"relu{i}": nn.ReLU(), f"pool{i}": nn.MaxPool2d(2)}
        channels = CHANNELS
    features = workload.shapes["output.weight"][1]
    return nn.Sequential(layers | {"flatten": nn.Flatten(), "output": nn.Linear(features, workload.outputs)})


def loss(workload: Workload, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error or cross-entropy."""
    return (F.mse_loss if workload.regression else F.cross_entropy)(outputs, targets)


class Task(NamedTuple):
    """One task's tensors.

    Attributes:
        start: its own initialisation, by parameter name; None where it is learned.
        order: [steps, batch]; None: full batches.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    start: dict[str, Tensor] | None
    order: Tensor | None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What step `step` trains on."""
        if self.order is None:
            return self.support_x, self.support_y
        rows = self.order[step]
        return self.support_x[rows], self.support_y[rows]


def tasks(workload: Workload, arrays: Arrays, device: str = "cpu") -> list[Task]:
    """The workload's tasks, one by one."""
    stacked = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    sets = [stacked[name] for name in ("support_x", "support_y", "query_x", "query_y")]

    def task(i: int) -> Task:
        start = None if workload.learned_init else {name: stacked[f"start.{name}"][i] for name in workload.shapes}
        order = stacked["order"][i] if "order" in stacked else None
        return Task(*(part[i] for part in sets), start, order)

    return [task(i) for i in range(workload.tasks)]


def learned(workload: Workload, arrays: Arrays, device: str = "cpu") -> dict[str, nn.Parameter]:
    """What is learned, by `lr.NAME`, `l2.NAME` (both as logarithms) and `init.NAME`."""
    return {
        f"{kind}.{name}": nn.Parameter(torch.from_numpy(arrays[f"{source}.{name}"].copy()).to(device))
        for kind, source in (("lr", "log_lr"), ("l2", "log_l2"), ("init", "init"))
        for name in workload.shapes
        if f"{source}.{name}" in arrays
    }


def outer_adam(hyper: dict[str, nn.Parameter]) -> torch.optim.Adam:
    """The outer optimizer; `fused` is the fastest that torch has."""
    return torch.optim.Adam(hyper.values(), lr=OUTER_LR, fused=True)


def as_arrays(hyper: dict[str, nn.Parameter]) -> Arrays:
    """The accumulated gradients, which are then cleared."""
    grads = {}
    for name, parameter in hyper.items():
        assert parameter.grad is not None, f"no hypergradient for {name}"
        grads[name] = parameter.grad.cpu().numpy().copy()
        parameter.grad = None
    return grads


class TorchPeer(ABC):
    """A `Candidate` that accumulates hypergradients in the `.grad` of what is learned.

    Args:
        workload: what is run.
        hyper: what is learned; see `learned`.
    """

    def __init__(self, workload: Workload, hyper: dict[str, nn.Parameter]) -> None:
        self._workload = workload
        self._hyper = hyper
        self._adam = outer_adam(hyper)

    def hypergradients(self) -> Arrays:
        """See `Candidate`."""
        self._differentiate()
        return as_arrays(self._hyper)

    def iteration(self) -> None:
        """See `Candidate`."""
        self._differentiate()
        if self._workload.outer_update:
            self._adam.step()
        self._adam.zero_grad()

    @abstractmethod
    def _differentiate(self) -> None:
        """Accumulates the hypergradients of the mean query loss."""
