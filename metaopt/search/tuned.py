"""The `tuned` baseline: the best single setting that a search finds on the tasks a policy was meta-trained on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import optuna

from metaopt.errors import ConfigError
from metaopt.evaluation.divergence import score_untrained
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws
from metaopt.models.objective import Objective
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.rule import Initialise
from metaopt.search.samplers import quiet_optuna
from metaopt.search.tuned_space import DEFAULTS, choices, suggest
from metaopt.trees import count_tasks
from metaopt.types import TaskBatch

MAX_TRIALS = 100
TASKS_PER_TRIAL = 64


class Tuned(NamedTuple):
    """What a search found and what it cost.

    Attributes:
        settings: the best setting.
        value: its mean query loss over the search's tasks.
        trials: number of settings tried.
        inner_steps: inner steps spent.
        seconds: wall time spent.
    """

    settings: RuleSettings
    value: float
    trials: int
    inner_steps: int
    seconds: float


def budget_trials(
    meta_training_inner_steps: int, tasks_per_trial: int, horizon: int, max_trials: int = MAX_TRIALS
) -> int:
    """How many trials a search may have, so that it spends no more inner steps than meta-training did.

    Args:
        meta_training_inner_steps: inner steps that meta-training spent, over all tasks.
        tasks_per_trial: tasks that a trial trains.
        horizon: inner steps on each of them.
        max_trials: the most trials at whatever budget.

    Returns:
        The number of trials, at least 1.
    """
    affordable = meta_training_inner_steps // (tasks_per_trial * horizon)
    return max(1, min(max_trials, affordable))


def tune(
    start: Initialise,
    objective: Objective,
    tasks: TaskBatch,
    draws: Draws,
    horizon: int,
    trials: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    chunk: int = 64,
) -> Tuned:
    """Searches optimizer, learning rate, L2 strength and momentum with Optuna's tree-structured Parzen estimator.

    All trials train the same tasks from the same initialisations and are scored on the query sets; the test sets are
    never looked at. The first trials are the settings that people type by hand, so the result is no worse than
    these. Equal arguments give equal settings.

    Args:
        start: noise -> θ₀, the initialisation that the comparison uses.
        objective: loss to train with, and scores to choose by.
        tasks: meta-train tasks.
        draws: noise and minibatch orders of these tasks.
        horizon: number of inner steps.
        trials: number of settings to try.
        seed: seed of the search.
        progress: called with 1 after each trial.
        chunk: tasks that are trained side by side; see `adapt`.

    Returns:
        The best setting and the cost of finding it.

    Raises:
        ConfigError: no trial is asked for.
        DataError: no task has a finite loss before training.
    """
    if trials < 1:
        raise ConfigError(f"expected at least 1 search trial, got {trials}: set search.trials=1 or more")
    began = time.perf_counter()

    def query_loss(settings: RuleSettings) -> float:
        found = adapt(fixed_learner(start, settings), objective, tasks, draws, horizon, on="query", chunk=chunk)
        loss, accuracy = (scores.double().cpu().numpy() for scores in found[:2])
        return float(score_untrained(loss, accuracy).loss[:, -1].mean())

    tried: list[tuple[float, RuleSettings]] = []
    with quiet_optuna():
        study = _study(seed, first=DEFAULTS[:trials])
        for _ in range(trials):
            trial = study.ask()
            settings = suggest(trial)
            value = query_loss(settings)
            study.tell(trial, value)
            tried.append((value, settings))
            if progress is not None:
                progress(1)

    best_value, best_settings = min(tried, key=lambda pair: pair[0])
    inner_steps = trials * count_tasks(tasks) * horizon
    return Tuned(best_settings, best_value, trials, inner_steps, time.perf_counter() - began)


def _study(seed: int, first: tuple[RuleSettings, ...]) -> optuna.Study:
    # Multivariate, because learning rate and momentum trade off; grouped, because momentum exists for SGD only.
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    for settings in first:
        study.enqueue_trial(choices(settings))
    return study
