"""The comparison on held-out tasks that ends `train_meta.py` and is all of `evaluate.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from metaopt.commands.progress import progress_bar
from metaopt.config.build import generator
from metaopt.evaluation.compare import Method, compare
from metaopt.evaluation.records import BatchStatistics, Comparison
from metaopt.outer.loop import sample
from metaopt.outer.problem import InnerProblem
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Initialise
from metaopt.policies.settings import PolicySettings
from metaopt.search.mapping import closest_setting
from metaopt.search.tuned import budget_trials, tune
from metaopt.search.tuned_space import DEFAULTS
from metaopt.tasks.family import OfMembers
from metaopt.types import Split


@dataclass(frozen=True)
class Terms:
    """On what terms the policy and its rivals meet.

    Attributes:
        split: where the tasks come from.
        n_tasks: number of tasks.
        baselines: which of sgd, adam, tuned and mapped take part.
        baseline_init: `policy`: baselines start from the policy's initialisations; `fresh`: from torch's.
        trials: most settings that the search behind `tuned` may try.
        tasks_per_trial: meta-train tasks on which each is tried.
        budget: inner steps that meta-training spent, which the search may not exceed.
        seed: of tasks, initialisations, minibatches and search.
        notes: what a reader of the result must know.
        batch_statistics: `transductive`, `inductive` or `both`: how a model with batch statistics predicts test sets.
    """

    split: Split
    n_tasks: int
    baselines: tuple[str, ...]
    baseline_init: str
    trials: int
    tasks_per_trial: int
    budget: int
    seed: int
    notes: tuple[str, ...] = ()
    batch_statistics: str = "both"


def evaluate_policy(problem: InnerProblem, policy: Policy, terms: Terms, console: Console) -> list[Comparison]:
    """Trains held-out tasks with the policy and with each baseline, behind a progress bar.

    Returns:
        A comparison; of a model with batch statistics, one for each way to predict that was asked for, the transductive
        one first.
    """
    tasks, draws = sample(problem, terms.split, terms.n_tasks, generator(terms.seed, "meta_test"))
    members: list[str] = []
    if isinstance(problem.family, OfMembers):
        members = problem.family.members_of(terms.split, terms.n_tasks, generator(terms.seed, "meta_test"))
    start = _baseline_start(problem, policy, terms)
    baselines = [_fixed(start, settings) for settings in DEFAULTS if settings.optimizer in terms.baselines]
    in_epochs = dataclasses.replace(problem, progressive=False)
    if "tuned" in terms.baselines:
        baselines.append(_tuned(in_epochs, start, terms, console))
    if "mapped" in terms.baselines:
        baselines.append(_mapped(start, policy, problem.horizon))
    if problem.progressive and baselines:  # they see all examples from the first step on
        plain = sample(in_epochs, terms.split, terms.n_tasks, generator(terms.seed, "meta_test"))[1]
        baselines = [dataclasses.replace(method, draws=plain) for method in baselines]
    methods = [Method("policy", policy.settings.name, policy), *baselines]
    with progress_bar(console, "held-out tasks", len(methods) * terms.n_tasks) as advance:
        return compare(
            methods,
            problem.objective,
            tasks,
            draws,
            problem.horizon,
            family_name=problem.family.name,
            kind=problem.family.spec.kind,
            split=terms.split,
            split_hash=problem.family.split_hash,
            seed=terms.seed,
            notes=(*_notes(policy, terms), *terms.notes),
            members=members,
            unit="table" if members else "task",
            chunk=problem.chunk,
            progress=lambda _, n: advance(n),
            statistics=_statistics(problem, terms),
            inductive=problem.inductive,
        )


def _statistics(problem: InnerProblem, terms: Terms) -> Sequence[BatchStatistics | None]:
    """How to predict test sets."""
    if problem.inductive is None:
        return (None,)
    ways: tuple[BatchStatistics, ...] = ("transductive", "inductive")
    return [way for way in ways if terms.batch_statistics in (way, "both")]


def _fixed(start: Initialise, settings: RuleSettings) -> Method:
    return Method(settings.optimizer, settings.describe(), fixed_learner(start, settings), settings=settings.to_json())


def _mapped(start: Initialise, policy: Policy, horizon: int) -> Method:
    settings = closest_setting(policy).settings
    return Method("mapped", settings.describe(), fixed_learner(start, settings, horizon), settings=settings.to_json())


def _tuned(problem: InnerProblem, start: Initialise, terms: Terms, console: Console) -> Method:
    tasks, draws = sample(problem, "meta_train", terms.tasks_per_trial, generator(terms.seed, "search"))
    trials = budget_trials(terms.budget, terms.tasks_per_trial, problem.horizon, terms.trials)
    with progress_bar(console, "tuning the baseline", trials) as advance:
        found = tune(
            start, problem.objective, tasks, draws, problem.horizon, trials, terms.seed, advance, problem.chunk
        )
    return Method(
        "tuned",
        found.settings.describe(),
        fixed_learner(start, found.settings),
        trials=found.trials,
        search_seconds=found.seconds,
        search_steps=found.inner_steps,
        settings=found.settings.to_json(),
    )


def _baseline_start(problem: InnerProblem, policy: Policy, terms: Terms) -> Initialise:
    if terms.baseline_init == "policy":
        return policy.start
    return Policy(PolicySettings(name="fresh"), problem.model.shapes, problem.model.init, 1).start


def _notes(policy: Policy, terms: Terms) -> tuple[str, ...]:
    notes = []
    mode = policy.settings.init.mode
    if terms.baselines and mode != "fresh":
        words = "the policy's own" if terms.baseline_init == "policy" else "torch's"
        notes.append(f"the policy's initialisation is {mode}; the baselines start from {words}")
    return tuple(notes)
