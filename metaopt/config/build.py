"""From a checked configuration to the objects of a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from metaopt.config.build_search import check_search
from metaopt.config.device import memory_of
from metaopt.config.engine import (
    build_inductive,
    build_objective,
    check_engine,
    check_loss,
    check_numbers_of,
    check_padding,
    plan_for,
    with_plan,
)
from metaopt.config.families import ModelConfig, TasksConfig, build_family, build_model
from metaopt.config.load import parts_config
from metaopt.config.mixture import check_mixture
from metaopt.config.schema import InnerConfig, OuterConfig, TrackingConfig, TrainConfig
from metaopt.config.start import begin_with, read_start, with_start
from metaopt.inner.plan import MANY_TASKS, Plan
from metaopt.inner.reverse import Reverse
from metaopt.models.objective import Outer
from metaopt.outer.loop import Validation, sample
from metaopt.outer.mixture import Mixture, counts_of
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.state import MetaState, new_state
from metaopt.policies.file import PolicyCard
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.tasks.family import Placeable, TaskFamily, hash_splits
from metaopt.tracking.guarded import Guarded
from metaopt.tracking.none import NoTracker
from metaopt.tracking.tracker import Tracker
from metaopt.tracking.wandb_tracker import WandbTracker
from metaopt.types import CPU, SPLITS


@dataclass(frozen=True)
class Job:
    """A meta-training run, ready to start.

    Attributes:
        parts: what is trained, by name; one part, named "", unless the tasks are a mixture.
        weights: share of each part in a meta-batch.
        outer: how it is meta-trained.
        state: where it stands, at first before the first iteration.
        validations: the fixed meta-validation tasks of each part.
        card: what the policy file will say of itself.
        plan: how hypergradients are computed.
        begins: with which policy, in a sentence; empty: with none.
    """

    parts: dict[str, InnerProblem]
    weights: dict[str, float]
    outer: OuterSettings
    state: MetaState
    validations: tuple[Validation, ...]
    card: PolicyCard
    plan: Plan
    begins: str = ""

    @property
    def problem(self) -> InnerProblem:
        """The only part, or the first."""
        return next(iter(self.parts.values()))

    @property
    def validation(self) -> Validation:
        """Its meta-validation tasks."""
        return self.validations[0]

    @property
    def whole(self) -> InnerProblem | Mixture:
        """What the outer loop trains."""
        return self.problem if len(self.parts) == 1 else Mixture(self.parts, self.weights)


def build_job(
    config: TrainConfig,
    plan: Plan | None = None,
    warn: Callable[[str], None] = warnings.warn,
    device: torch.device = CPU,
) -> Job:
    """Builds everything and draws the starting point; reads data, but starts no work.

    Args:
        config: the configuration.
        plan: of the same run, before it was interrupted; None: what the configuration leaves open is chosen now, which
            may train on a few tasks to measure.
        warn: is given a line where compilation fails.
        device: where to compute; see `use_device`.

    Raises:
        ConfigError, TaskError, DataError, PolicyFileError: see there.
    """
    settings, parts, outer = config.policy.settings(), parts_config(config.tasks), build_outer(config.outer)
    aim: Outer = config.outer.objective  # type: ignore[assignment]
    check_mixture(parts, settings)
    start = read_start(config.outer.start, settings, config.inner.horizon)
    problems = {
        name: build_problem(tasks, config.model, config.inner, settings, device, aim)
        for name, tasks in parts.configs.items()
    }
    first = next(iter(problems.values()))
    model = first.model
    for problem in problems.values():
        check_search(config.search, problem, settings, config.evaluation.batch_statistics)
    roles = [role for problem in problems.values() for role in problem.model.roles.values()]
    # Streams of their own, so that the length of one does not shift another.
    policy = Policy(
        settings, model.shapes, model.init, config.inner.horizon, generator(config.seed, "policy"), model.roles, roles
    )
    begins = "" if start is None else begin_with(start, policy, model)
    policy.to(device, first.dtype)
    check_numbers_of(config.inner, policy)
    whole = first if len(problems) == 1 else Mixture(problems, parts.weights)
    counts = counts_of(whole, outer.validation_tasks)
    fixed = generator(config.seed, "meta_validation")
    validations = tuple(
        Validation(*sample(problem, "meta_validation", n, fixed))
        for problem, n in zip(problems.values(), counts, strict=True)
    )
    _place(problems)
    plan = plan or plan_for(config, first, policy, validations[0])
    problems = {name: with_plan(problem, plan, config.inner, warn, aim) for name, problem in problems.items()}
    card = with_start(_card(config, problems, plan), start)
    state = new_state(policy, outer, generator(config.seed, "meta_train"))
    if start is not None:
        state.inner_steps = start.inner_steps
    return Job(problems, parts.weights, outer, state, validations, card, plan, begins)


def _card(config: TrainConfig, problems: Mapping[str, InnerProblem], plan: Plan) -> PolicyCard:
    families = {name: problem.family for name, problem in problems.items()}
    model = next(iter(problems.values())).model
    return PolicyCard(
        policy=config.policy.settings(),
        horizon=config.inner.horizon,
        model=model.spec,
        parameters={name: tuple(shape) for name, shape in model.shapes.items()},
        tasks=" + ".join(family.name for family in families.values()),
        split_hash=joint_hash(families),
        config=card_config(config, plan),
        roles=model.roles,
    )


def _place(problems: Mapping[str, InnerProblem]) -> None:
    """Moves what tasks are made of to the GPU that they are trained on, where it takes little of its memory."""
    for problem in problems.values():
        memory = memory_of(problem.device)
        if memory is not None and isinstance(problem.family, Placeable):
            problem.family.place(problem.device, memory // 8)


def joint_hash(families: Mapping[str, TaskFamily]) -> str:
    """The split hash of one family; of several, one that changes with any of theirs."""
    hashes = {name: family.split_hash for name, family in families.items()}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hash_splits("mixture", {split: [f"{name} {found}" for name, found in hashes.items()] for split in SPLITS})


def build_problem(
    tasks: TasksConfig,
    model: ModelConfig,
    inner: InnerConfig,
    settings: PolicySettings,
    device: torch.device = CPU,
    outer: Outer = "loss",
) -> InnerProblem:
    """The inner problem that a policy with these settings is for, before it is planned; see `build_job`."""
    check_engine(settings, inner, device)
    family = build_family(tasks)
    network = build_model(model, family.spec)
    check_padding(family.spec, network)
    check_loss(settings, family.spec)
    return InnerProblem(
        family=family,
        model=network,
        objective=build_objective(network, family.spec, inner.dtype, outer),
        horizon=inner.horizon,
        batch_size=inner.batch_size,
        hypergradient=Reverse(),
        chunk=(inner.chunk or MANY_TASKS) if settings.optimizer == "metaopt" else 1,
        dtype=torch.float64 if inner.dtype == "float64" else torch.float32,
        device=device,
        inductive=build_inductive(network, family.spec, inner.dtype),
        horizons=tuple(inner.horizons or ()),
        loss_noise=settings.draws_noise(),
        progressive=settings.order == "progressive",
    )


def build_tracker(
    config: TrackingConfig, run_dir: Path, record: dict[str, Any], warn: Callable[[str], None]
) -> Tracker:
    """The tracker of a run, which never raises: its first failure goes to `warn`, and the run goes on without it.

    Args:
        config: where to track.
        run_dir: the run's directory.
        record: the whole configuration, for the record.
        warn: is given one line if anything fails.
    """
    if config.name == "none" or config.mode == "disabled":
        return NoTracker()

    def opened() -> Tracker:
        return WandbTracker(run_dir, record, config.mode, config.project, name=run_dir.name)  # type: ignore[arg-type]

    return Guarded(opened, warn)


def card_config(config: TrainConfig, plan: Plan) -> dict[str, Any]:
    """What a policy file keeps of the configuration: enough to set up the same training on other tasks."""
    chosen = {"hypergradient": plan.hypergradient, "task_chunk": plan.adapt_chunk, "compile": plan.compile}
    return {
        "tasks": asdict(config.tasks),
        "model": asdict(config.model),
        "inner": asdict(config.inner) | chosen,
        "meta_training_inner_steps": 0,  # a run counts them as it spends them
        "seed": config.seed,
    }


def build_outer(config: OuterConfig) -> OuterSettings:
    """The settings of the outer loop."""
    settings = asdict(config)
    del settings["objective"], settings["start"]  # which belong to the inner problem and to the policy
    return OuterSettings(**settings)


STREAMS = ("policy", "meta_train", "meta_validation", "meta_test", "search")


def generator(seed: int, stream: str) -> torch.Generator:
    """An independent random generator for each use of a seed."""
    return torch.Generator().manual_seed(seed * len(STREAMS) + STREAMS.index(stream))
