"""From a checked configuration to the objects of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from metaopt.config.families import ModelConfig, TasksConfig, build_family, build_model
from metaopt.config.schema import InnerConfig, OuterConfig, TrackingConfig, TrainConfig
from metaopt.errors import ConfigError
from metaopt.inner.hypergradient import HypergradientMethod
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.models.model import Model
from metaopt.models.objective import objective
from metaopt.outer.loop import Validation, sample
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.state import MetaState, new_state
from metaopt.policies.file import PolicyCard
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.tracking.guarded import Guarded
from metaopt.tracking.none import NoTracker
from metaopt.tracking.tracker import Tracker
from metaopt.tracking.wandb_tracker import WandbTracker
from metaopt.types import Kind


@dataclass(frozen=True)
class Job:
    """A meta-training run, ready to start.

    Attributes:
        problem: what is trained.
        outer: how it is meta-trained.
        state: where it stands, at first before the first iteration.
        validation: the fixed meta-validation tasks.
        card: what the policy file will say of itself.
    """

    problem: InnerProblem
    outer: OuterSettings
    state: MetaState
    validation: Validation
    card: PolicyCard


def build_job(config: TrainConfig) -> Job:
    """Builds everything and draws the starting point; reads data, but starts no work.

    Raises:
        ConfigError, TaskError, DataError: see there.
    """
    settings = config.policy.settings()
    problem = build_problem(config.tasks, config.model, config.inner, settings)
    family, model = problem.family, problem.model
    # Streams of their own, so that the length of one does not shift another.
    outer = build_outer(config.outer)
    policy = Policy(settings, model.shapes, model.init, config.inner.horizon, generator(config.seed, "policy"))
    validation = Validation(
        *sample(problem, "meta_validation", outer.validation_tasks, generator(config.seed, "meta_validation"))
    )
    card = PolicyCard(
        policy=settings,
        horizon=config.inner.horizon,
        model=model.spec,
        parameters={name: tuple(shape) for name, shape in model.shapes.items()},
        tasks=family.name,
        split_hash=family.split_hash,
        config=card_config(config),
    )
    state = new_state(policy, outer, generator(config.seed, "meta_train"))
    return Job(problem, outer, state, validation, card)


def build_problem(tasks: TasksConfig, model: ModelConfig, inner: InnerConfig, settings: PolicySettings) -> InnerProblem:
    """The inner problem that a policy with these settings is for; see `build_job`."""
    check_engine(settings, inner)
    family = build_family(tasks)
    network = build_model(model, family.spec)
    return InnerProblem(
        family=family,
        model=network,
        objective=objective(network, family.spec.kind),
        horizon=inner.horizon,
        batch_size=inner.batch_size,
        hypergradient=build_hypergradient(inner, network, family.spec.kind),
        chunk=inner.task_chunk if settings.optimizer == "metaopt" else 1,
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
    return Guarded(lambda: WandbTracker(run_dir, record, config.mode, config.project, name=run_dir.name), warn)  # type: ignore[arg-type]


def card_config(config: TrainConfig) -> dict[str, Any]:
    """What a policy file keeps of the configuration: enough to set up the same training on other tasks."""
    return {
        "tasks": asdict(config.tasks),
        "model": asdict(config.model),
        "inner": asdict(config.inner),
        "meta_training_inner_steps": 0,  # a run counts them as it spends them
        "seed": config.seed,
    }


def check_engine(settings: PolicySettings, inner: InnerConfig) -> None:
    """Raises ConfigError where the policy needs the other engine."""
    if settings.optimizer != "metaopt" and inner.engine != "higher":
        raise ConfigError(
            f"policy.optimizer={settings.optimizer} runs under inner.engine=higher only, but inner.engine is "
            f"{inner.engine}; add inner.engine=higher"
        )


def build_hypergradient(config: InnerConfig, model: Model, kind: Kind) -> HypergradientMethod:
    """The way to the hypergradient."""
    first_order = config.hypergradient == "first_order"
    if config.engine == "higher":
        return ThroughHigher(model, kind, first_order)
    return Reverse(first_order, config.task_chunk)


def build_outer(config: OuterConfig) -> OuterSettings:
    """The settings of the outer loop."""
    return OuterSettings(**asdict(config))


STREAMS = ("policy", "meta_train", "meta_validation", "meta_test", "search")


def generator(seed: int, stream: str) -> torch.Generator:
    """An independent random generator for each use of a seed."""
    return torch.Generator().manual_seed(seed * len(STREAMS) + STREAMS.index(stream))
