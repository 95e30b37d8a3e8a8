"""metaopt: a policy and a way to its hypergradient, as meta-training runs them."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from workloads import OUTER_LR, Arrays, Workload

from metaopt.config.engine import build_objective
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.compile import Eager, Inductor
from metaopt.inner.draws import Draws
from metaopt.inner.hypergradient import HypergradientMethod, Hypergradients, summed_if_finite
from metaopt.inner.mixed import Mixed
from metaopt.inner.plan import FEW_STEPS
from metaopt.inner.reverse import Reverse
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.outer.loop import outer_step
from metaopt.outer.problem import OuterSettings
from metaopt.outer.state import new_state
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.policies.tables import encode
from metaopt.types import Batch, Kind, Params, TaskBatch, TaskSpec

METHODS = (
    "reverse",
    "mixed",
    "mixed_forward",
    "checkpointing",
    "checkpointing_20",
    "eager_reverse",
    "eager_mixed",
    "eager_checkpointing",
)
"""Variants that `method` knows; `checkpointing_N`, any N, stores N steps; `mixed/4` and so on has 4 tasks side by side.
Without `eager`, what runs is compiled."""


def method(workload: Workload, which: str | None = None, device: str = "cpu") -> HypergradientMethod:
    """The way to the hypergradient; without `which`, what `inner.hypergradient=auto` comes to in a long run."""
    which, _, size = (which or "").partition("/")
    which = which or ("reverse" if workload.steps <= FEW_STEPS else "mixed")
    checkpoints = re.fullmatch(r"(?:eager_)?checkpointing_([1-9]\d*)", which)
    if checkpoints is None and which not in METHODS:
        raise ValueError(f"metaopt has no method '{which}'; choose one of {', '.join(METHODS)}")
    on_cpu = device == "cpu"
    workers = workload.threads if on_cpu and not which.startswith("eager") else 1
    compiler = Eager() if which.startswith("eager") else Inductor(workers=workers, device=torch.device(device))
    alone = workload.model == "conv4" and on_cpu
    chunk = int(size) if size else 1 if alone else math.ceil(workload.tasks / workers)
    if checkpoints is not None:
        return Checkpointing(int(checkpoints[1]), chunk=chunk, compiler=compiler)
    match which.removeprefix("eager_"):
        case "reverse":
            return Reverse(chunk=chunk, compiler=compiler)
        case "checkpointing":
            return Checkpointing(chunk=chunk, compiler=compiler)
        case other:
            return Mixed(second="forward" if other == "mixed_forward" else "reverse", chunk=chunk, compiler=compiler)


def build(workload: Workload, arrays: Arrays, variant: str | None, device: str = "cpu") -> Ours:
    """See `candidates.build`; the variant is the name of a method."""
    return Ours(workload, arrays, method(workload, variant, device), device=device)


class Ours:
    """See `Candidate`."""

    def __init__(
        self,
        workload: Workload,
        arrays: Arrays,
        way: HypergradientMethod,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self._workload = workload
        self._method = way
        kind = Kind.regression if workload.regression else Kind.classification
        spec = TaskSpec(kind, workload.input_shape, workload.outputs)
        model = mlp(spec, workload.widths) if workload.model == "mlp" else conv4(spec)
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        self._objective = build_objective(model, spec, precision)
        query = Batch(tensors["query_x"], tensors["query_y"])
        self._tasks = TaskBatch(Batch(tensors["support_x"], tensors["support_y"]), query, query)
        self._draws = Draws(_noise(workload, model, tensors), tensors.get("order"))
        self._policy = _policy(workload, model, tensors)
        self._settings = OuterSettings(lr=OUTER_LR, lr_schedule="constant")
        self._state = new_state(self._policy, self._settings, torch.Generator())

    def hypergradients(self) -> Arrays:
        """See `Candidate`."""
        means = {n: g.sum(0).cpu().numpy() / self._workload.tasks for n, g in self._differentiate().grads.items()}
        return {name.removeprefix("log_strengths.").replace("/", "."): mean for name, mean in means.items()}

    def iteration(self) -> None:
        """See `Candidate`."""
        found = self._differentiate()
        if self._workload.outer_update:
            outer_step(self._state, self._settings, found)

    def _differentiate(self) -> Hypergradients:
        return summed_if_finite(
            self._method, self._policy, self._objective, self._tasks, self._draws, self._workload.steps
        )


def _policy(workload: Workload, model: Model, tensors: Params) -> Policy:
    learned = StrengthSettings("learned", workload.lr, "element")
    settings = PolicySettings(
        lr=learned,
        l2=StrengthSettings() if workload.l2 is None else StrengthSettings("learned", workload.l2, "element"),
        init=InitSettings("learned" if workload.learned_init else "fresh"),
    )
    policy = Policy(settings, model.shapes, model.init, workload.steps, torch.Generator().manual_seed(0))
    values = {
        target: tensors[f"{source}.{name}"]
        for name in model.shapes
        for source, target in (
            ("log_lr", f"log_strengths.lr.{encode(name)}"),
            ("log_l2", f"log_strengths.l2.{encode(name)}"),
            ("init", f"init.{encode(name)}"),
        )
        if f"{source}.{name}" in tensors
    }
    policy.to(tensors["support_x"].device).load_state_dict(values)
    return policy


def _noise(workload: Workload, model: Model, tensors: Params) -> dict[str, Tensor]:
    """The noise from which the policy makes the given initialisations."""
    if workload.learned_init:
        like = tensors["support_x"]
        return {name: like.new_zeros(workload.tasks, *shape) for name, shape in model.shapes.items()}
    noise = {}
    for name in model.shapes:
        mean, std, _ = model.init[name]
        assert not math.isclose(std, 0.0), "fresh workloads have no normalisation layers"
        noise[name] = (tensors[f"start.{name}"] - mean) / std
    return noise
