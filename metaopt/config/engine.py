"""From the settings of the inner loop to the way that hypergradients are computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from metaopt.config.device import has_bfloat16, memory_of, wait_for
from metaopt.config.schema import InnerConfig, TrainConfig
from metaopt.errors import ConfigError
from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.compile import Compiler, Eager, Inductor
from metaopt.inner.draws import take_draws
from metaopt.inner.forward import Forward, check_numbers
from metaopt.inner.hypergradient import HypergradientMethod
from metaopt.inner.mixed import Mixed
from metaopt.inner.plan import LONGEST_COMPILED_REVERSE, MANY_TASKS, Plan, Workload, make_plan, quickest
from metaopt.inner.program import Program
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.truncated import Truncated
from metaopt.models.model import Hidden, Model, count_activations
from metaopt.models.objective import Inductive, Objective, Outer, Scores, objective_of
from metaopt.outer.loop import Validation
from metaopt.outer.problem import InnerProblem
from metaopt.outer.ranks import place
from metaopt.policies.policy import Policy
from metaopt.policies.progressive import SHORTEST
from metaopt.policies.settings import PolicySettings
from metaopt.trees import count_tasks, take_tasks
from metaopt.types import CPU, Kind, Params, TaskSpec

MEASURED_TASKS = 16
"""Tasks on which chunks are measured, at most."""


def check_engine(settings: PolicySettings, inner: InnerConfig, device: torch.device = CPU) -> None:
    """Raises ConfigError where the parts of the inner loop do not go together, or the device does not have them."""
    if settings.optimizer != "metaopt" and inner.engine != "higher":
        raise ConfigError(
            f"policy.optimizer={settings.optimizer} runs under inner.engine=higher only, but inner.engine is "
            f"{inner.engine}; add inner.engine=higher"
        )
    if inner.horizons is not None and settings.schedule != "off":
        raise ConfigError(
            f"inner.horizons is {inner.horizons}, but policy.schedule is {settings.schedule}, whose factors belong to "
            "the steps of one horizon; give policy.schedule=off, or leave out inner.horizons"
        )
    shortest = min(inner.horizons or (inner.horizon,))
    if settings.order == "progressive" and shortest < SHORTEST:
        raise ConfigError(
            f"policy.order is progressive, which needs at least {SHORTEST} steps, but trainings have {shortest}; raise "
            "the horizon, or meta-train with policy.order=epochs"
        )
    if inner.engine == "higher" and inner.hypergradient not in ("auto", "reverse", "first_order"):
        raise ConfigError(
            f"inner.hypergradient={inner.hypergradient} is not for inner.engine=higher, which has reverse and "
            "first_order; leave inner.engine=native"
        )
    if inner.engine == "higher" and inner.compile is True:
        raise ConfigError("inner.compile=true is not for inner.engine=higher; leave out one of them")
    if inner.hypergradient == "reverse" and inner.compile is True and inner.longest > LONGEST_COMPILED_REVERSE:
        which = "inner.horizons has" if inner.horizons else "inner.horizon is"
        raise ConfigError(
            f"inner.hypergradient=reverse compiles the whole unroll, for a horizon of at most "
            f"{LONGEST_COMPILED_REVERSE}, but {which} {inner.longest}; choose inner.hypergradient=mixed"
        )
    if inner.dtype == "bfloat16" and not has_bfloat16(device):
        processor = "processor" if device == CPU else "GPU"
        raise ConfigError(f"inner.dtype is bfloat16, which this {processor} does not have; use float32")


def check_loss(settings: PolicySettings, task: TaskSpec) -> None:
    """Raises ConfigError where what enters the inner loss makes no sense on these tasks."""
    if settings.label_smoothing.mode != "off" and task.kind is Kind.regression:
        raise ConfigError(
            f"policy.label_smoothing.mode is {settings.label_smoothing.mode}, but the tasks are regressions, whose "
            "targets are no classes; meta-train with policy.label_smoothing.mode=off"
        )
    if settings.input_noise.mode != "off" and task.vocabulary is not None:
        raise ConfigError(
            f"policy.input_noise.mode is {settings.input_noise.mode}, but the tasks' inputs are ids of "
            f"{task.vocabulary} words, to which nothing can be added; meta-train with policy.input_noise.mode=off"
        )


def check_padding(task: TaskSpec, model: Model) -> None:
    """Raises ConfigError where tasks differ in width and the model cannot leave the padding out."""
    if task.padded and not (model.input_layer or model.masks):
        raise ConfigError(
            f"model={model.spec['name']} takes inputs of one width, but these tasks differ in the number of columns; "
            "use model=mlp, linear or transformer"
        )


def check_numbers_of(inner: InnerConfig, policy: Policy) -> None:
    """Raises ConfigError where forward mode would have too many tangents to carry."""
    if inner.hypergradient == "forward":
        check_numbers(sum(p.numel() for p in policy.parameters()))


def build_objective(model: Model, task: TaskSpec, dtype: str, outer: Outer = "loss") -> Objective:
    """Loss and scores, with the model's own computations in bfloat16 if asked for."""
    return objective_of(_apply(model, dtype), task.kind, task.padded, outer)._replace(model=model)


def build_inductive(model: Model, task: TaskSpec, dtype: str) -> Inductive | None:
    """Scores by the batch statistics of other inputs; None where a model has no batch statistics."""
    if not model.transductive:
        return None
    apply = _apply(model, dtype)

    def scores_by(reference: Tensor) -> Scores:
        return objective_of(lambda params, x: apply(params, x, reference), task.kind, task.padded).scores

    return scores_by


def _apply(model: Model, dtype: str) -> Callable[..., Tensor]:
    """The model's `apply`, in bfloat16 if asked for."""
    if dtype != "bfloat16":
        return model.apply

    def apply(params: Params, x: Tensor, reference: Tensor | None = None, hidden: Hidden | None = None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return model.apply(params, x, reference, hidden).float()

    return apply


def with_plan(
    problem: InnerProblem, plan: Plan, inner: InnerConfig, warn: Callable[[str], None], outer: Outer = "loss"
) -> InnerProblem:
    """The problem with the plan's way to the hypergradient."""
    method = build_hypergradient(plan, inner, problem.model, problem.family.spec, warn, problem.device, outer)
    return replace(problem, hypergradient=method, chunk=plan.adapt_chunk)


def build_hypergradient(
    plan: Plan,
    inner: InnerConfig,
    model: Model,
    task: TaskSpec,
    warn: Callable[[str], None],
    device: torch.device = CPU,
    outer: Outer = "loss",
) -> HypergradientMethod:
    """The way to the hypergradient."""
    if inner.engine == "higher":
        return ThroughHigher(model, task.kind, plan.hypergradient == "first_order", task.padded, outer)
    compiler: Compiler = Inductor(warn, plan.workers, device) if plan.compile else Eager()
    chunk, second = plan.task_chunk, "forward" if inner.second_derivative == "forward" else "reverse"
    ways: dict[str, Callable[[], HypergradientMethod]] = {
        "reverse": lambda: Reverse(False, chunk, compiler),
        "mixed": lambda: Mixed(second, chunk, compiler),
        "checkpointing": lambda: Checkpointing(inner.stored_steps, second, chunk, compiler),
        "truncated": lambda: Truncated(inner.window, second, chunk, compiler),
        "forward": lambda: Forward(chunk, compiler),
        "first_order": lambda: Mixed("none", chunk, compiler),
    }
    return ways[plan.hypergradient]()


def plan_for(config: TrainConfig, problem: InnerProblem, policy: Policy, validation: Validation) -> Plan:
    """Chooses what the configuration leaves open; meta-validation tasks serve to measure."""
    inner, outer = config.inner, config.outer
    if inner.engine == "higher":
        way = "first_order" if inner.hypergradient == "first_order" else "reverse"
        # Torch's own optimizers cannot go through vmap.
        at_once = (inner.chunk or MANY_TASKS) if policy.settings.optimizer == "metaopt" else 1
        return Plan(way, 1, at_once, False, "as higher does it")
    support = validation.tasks.support.x[0]
    batch = support.shape[0] if inner.batch_size is None else min(inner.batch_size, support.shape[0])
    share = -(-outer.meta_batch // place()[1])  # the tasks of one process
    workload = Workload(
        horizon=inner.longest,  # what fits this long fits all
        iterations=outer.iterations,
        meta_batch=share,
        tensors=len(problem.model.shapes),
        carry=Program(policy, problem.objective).carry.size,
        activations=count_activations(problem.model, support[:batch].to(CPU, torch.float32)),
        itemsize=problem.dtype.itemsize,
        convolutional=any(isinstance(layer, torch.nn.Conv2d) for layer in problem.model.module.modules()),
    )
    measured = min(share, count_tasks(validation.tasks), MEASURED_TASKS)
    tasks = take_tasks(validation.tasks, slice(0, measured))
    draws = take_draws(validation.draws, slice(0, measured))

    def seconds_at(chunk: int) -> float:
        method = Reverse(chunk=chunk)

        def measured_step() -> object:
            return method(policy, problem.objective, tasks, draws, 1)

        one_step = quickest(measured_step, wait=lambda: wait_for(problem.device))
        return one_step * math.ceil(share / measured)

    threads = torch.get_num_threads() if problem.device.type == "cpu" else 1
    memory = memory_of(problem.device)
    return make_plan(workload, inner.hypergradient, inner.chunk, inner.compiled, seconds_at, memory, threads)
