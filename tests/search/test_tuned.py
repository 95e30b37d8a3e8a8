from statistics import median

import optuna
import pytest
import torch

from metaopt.errors import ConfigError
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import draw
from metaopt.models.objective import Objective
from metaopt.policies.baselines import fixed_learner
from metaopt.search.tuned import budget_trials, tune
from metaopt.search.tuned_space import DEFAULTS, suggest
from metaopt.types import Batch, TaskBatch

N_TASKS, N_INPUTS, HORIZON = 5, 3, 10


def scores(params, batch):
    loss = ((batch.x @ params["weight"] - batch.y) ** 2).mean()
    return loss, torch.full_like(loss, torch.nan)


OBJECTIVE = Objective(lambda params, batch: scores(params, batch)[0], scores, scores)


def linear_tasks(scale=1.0):
    """Noise-free linear regressions; the larger `scale`, the smaller the learning rates that do not diverge."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(N_TASKS, N_INPUTS, 1, generator=generator)

    def examples(n):
        x = scale * torch.randn(N_TASKS, n, N_INPUTS, generator=generator)
        return Batch(x, x @ weight)

    return TaskBatch(support=examples(30), query=examples(20), test=examples(20))


DRAWS = draw({"weight": torch.Size([N_INPUTS, 1])}, N_TASKS, HORIZON, None, 30, torch.Generator().manual_seed(1))


def zeros(noise):
    return {name: torch.zeros_like(tensor) for name, tensor in noise.items()}


def search(tasks=None, trials=30, seed=0, progress=None):
    return tune(zeros, OBJECTIVE, tasks or linear_tasks(), DRAWS, HORIZON, trials, seed, progress)


def value_of(settings, tasks):
    found = adapt(fixed_learner(zeros, settings), OBJECTIVE, tasks, DRAWS, HORIZON, on="query")
    return found.loss[:, -1].double().mean().item()


def test_it_beats_the_settings_that_people_type():
    tasks = linear_tasks()
    tuned = search(tasks)
    assert tuned.value < 0.5 * min(value_of(settings, tasks) for settings in DEFAULTS)
    assert tuned.value == pytest.approx(value_of(tuned.settings, tasks))


def test_it_learns_from_its_trials(monkeypatch):
    tried = []

    def spy(trial):
        tried.append(suggest(trial))
        return tried[-1]

    monkeypatch.setattr("metaopt.search.tuned.suggest", spy)
    tasks = linear_tasks()
    search(tasks, trials=60)
    values = [value_of(settings, tasks) for settings in tried]
    assert median(values[30:]) < 0.4 * median(values[:12])  # the first dozen are blind


def test_it_is_deterministic_in_its_seed():
    first, again, other = search(trials=15), search(trials=15), search(trials=15, seed=1)
    assert (first.settings, first.value) == (again.settings, again.value)
    assert first.settings != other.settings


@pytest.mark.parametrize("trials", [2, 4])
def test_it_is_never_worse_than_the_defaults(trials):
    tasks = linear_tasks()
    best = min(value_of(settings, tasks) for settings in DEFAULTS)
    assert search(tasks, trials=trials).value <= best


def test_one_trial_is_the_first_default():
    assert search(trials=1).settings == DEFAULTS[0]


def test_diverging_trials_count_as_untrained_and_are_not_chosen():
    tasks = linear_tasks(scale=1e3)  # SGD at 0.1 multiplies the error by some -1e5 at each step
    assert not torch.isfinite(torch.tensor(value_of(DEFAULTS[0], tasks)))
    untrained = (tasks.query.y.double() ** 2).mean().item()
    assert search(tasks, trials=1).value == pytest.approx(untrained)
    tuned = search(tasks)
    assert tuned.value < untrained
    assert tuned.value == pytest.approx(value_of(tuned.settings, tasks))


def test_the_test_sets_are_not_looked_at():
    tasks = linear_tasks()
    blind = tasks._replace(test=Batch(torch.full_like(tasks.test.x, torch.nan), tasks.test.y))
    assert search(blind, trials=5)[:2] == search(tasks, trials=5)[:2]


def test_it_says_what_it_cost():
    told = []
    tuned = search(trials=4, progress=told.append)
    assert told == [1, 1, 1, 1]
    assert (tuned.trials, tuned.inner_steps) == (4, 4 * N_TASKS * HORIZON)
    assert tuned.seconds > 0


def test_it_is_silent_and_leaves_optunas_logging_as_it_was(capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        search(trials=12)
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_no_trials_are_refused():
    with pytest.raises(ConfigError, match=r"got 0.*search\.trials"):
        search(trials=0)


@pytest.mark.parametrize(
    ("inner_steps", "expected"),
    [(0, 1), (6399, 1), (6400, 1), (12799, 1), (12800, 2), (640_000, 100), (10**9, 100)],
)
def test_the_budget_is_what_meta_training_spent(inner_steps, expected):
    assert budget_trials(inner_steps, tasks_per_trial=64, horizon=100) == expected


def test_the_budget_has_a_ceiling_of_ones_own():
    assert budget_trials(10**9, tasks_per_trial=64, horizon=100, max_trials=7) == 7
