import csv
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from search_helpers import (
    BY_ROLE,
    HORIZON,
    PADDED,
    REGRESSION,
    SUPPORT,
    classification,
    make_draws,
    make_plan,
    make_setting,
    padded,
    regression,
)
from search_process import N_TASKS, search_toy

from metaopt.inner.draws import take_draws
from metaopt.search.mapping import policy_space
from metaopt.search.rounds import Plan, fingerprint
from metaopt.search.run import search
from metaopt.search.samplers import METHODS
from metaopt.search.space import DIMENSIONS, ConventionalSpace
from metaopt.search.storage import opened
from metaopt.search.study import WORKER
from metaopt.search.trials_csv import write_trials_csv
from metaopt.trees import take_tasks

HERE = Path(__file__).parent
QUICK = ("tpe", "cmaes", "genetic", "grid", "random")


def same(found, expected):
    """The same trials, in the same order; what they are worth up to what a training's neighbours do to it."""
    for one, other in zip(found, expected, strict=True):
        assert one.name == other.name
        for a, b in zip(one.settings, other.settings, strict=True):
            assert a == b, one.name
        for name in ("chosen", "diverged"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for name in ("validation", "loss", "accuracy"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5)
        assert one.inner_steps == other.inner_steps


def outcomes(spec=None, folds=None, methods=("random", "tpe"), trials=5, space=None, fresh=True):
    make = {REGRESSION: regression, PADDED: padded}.get(spec, classification)
    setting = make_setting(**({"spec": spec} if spec else {}), folds=folds, fresh=fresh)
    tasks = make()
    return search(setting, make_plan(methods, trials, space=space), tasks, make_draws(setting, tasks))


@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("spec", [None, REGRESSION, PADDED], ids=["classes", "regression", "padded"])
def test_outcomes_are_consistent(spec, folds):
    for outcome in outcomes(spec, folds):
        n = 4 if spec is PADDED else 3
        assert outcome.validation.shape == outcome.loss.shape == outcome.chosen.shape == (n, 5)
        assert np.isfinite(outcome.validation).all()
        assert np.isfinite(outcome.loss).all()
        assert (outcome.accuracy is None) == (spec is REGRESSION)
        for task in range(n):
            for trial in range(5):
                best = outcome.chosen[task, trial]
                assert best <= trial
                assert outcome.validation[task, best] == outcome.validation[task, : trial + 1].min()
                same_answer = outcome.chosen[task] == best
                assert len(set(outcome.loss[task, same_answer])) == 1
            assert len(outcome.settings[task]) == 5
        assert outcome.seconds > 0
        least = n * 5 * HORIZON * (folds or 1)
        if folds is None:
            assert outcome.inner_steps == least
        else:  # and once more for each new answer
            answers = sum(len(set(row)) for row in outcome.chosen.tolist())
            assert outcome.inner_steps == least + answers * HORIZON


def test_all_methods_in_the_whole_space_leave_finite_records(tmp_path):
    """Learning rates up to 3 with momentum, so that some diverge."""
    setting = make_setting(away=0.0)
    tasks = classification(2)
    tasks = tasks._replace(support=tasks.support._replace(x=30 * tasks.support.x))
    plan = make_plan(METHODS, 12, space=ConventionalSpace(DIMENSIONS, SUPPORT))
    found = search(setting, plan, tasks, make_draws(setting, tasks))
    assert [outcome.name for outcome in found] == list(METHODS)
    assert any(outcome.diverged.any() for outcome in found)
    for outcome in found:
        for task in range(2):
            bad = outcome.diverged[task]
            if bad.any():
                worst = outcome.validation[task][bad]
                assert worst.max() == outcome.validation[task].max()  # others fit the query set, and no test set
    write_trials_csv(found, tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 12 * len(METHODS)
    assert not {"nan", "inf", "-inf", "None"} & {cell for row in rows for cell in row.values()}
    json.dumps([outcome.loss.tolist() for outcome in found], allow_nan=False)


def test_searches_do_not_look_at_test_sets():
    setting = make_setting(folds=3)
    tasks = classification()
    other = tasks._replace(test=tasks.test._replace(y=(tasks.test.y + 1) % 3))
    draws = make_draws(setting, tasks)
    plan = make_plan(("tpe",), 14)
    one, two = (search(setting, plan, each, draws)[0] for each in (tasks, other))
    np.testing.assert_array_equal(one.validation, two.validation)
    np.testing.assert_array_equal(one.chosen, two.chosen)
    assert not np.allclose(one.loss, two.loss)


def test_cold_and_warm_searches_of_a_method_stand_side_by_side():
    setting = make_setting(BY_ROLE, batch_size=8, widths=(16, 16))
    tasks = classification()
    warm, _ = policy_space(setting.policy, DIMENSIONS, SUPPORT, 8, setting.model.spec)
    plan = Plan({"tpe": ("tpe", ConventionalSpace(DIMENSIONS, SUPPORT)), "tpe_warm": ("tpe", warm)}, 6, None, "toy")
    cold, started = search(setting, plan, tasks, make_draws(setting, tasks))
    assert (cold.name, started.name) == ("tpe", "tpe_warm")
    assert started.description == f"{cold.description}, started from the policy"
    assert all(task[0]["lr_multiplier"] == 1 for task in started.settings)
    assert "lr_multiplier" not in cold.settings[0][0]


def test_two_processes_find_what_one_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))
    setting = make_setting()
    tasks = classification(5)
    draws = make_draws(setting, tasks)
    plan = make_plan(("tpe", "random"), 5)
    ticks, others = [], []
    one = search(setting, plan, tasks, draws, 1, ticks.append)
    two = search(setting, plan, tasks, draws, 2, others.append)
    same(two, one)
    assert sum(ticks) == sum(others) == 5 * 2 * 5
    stored = replace(plan, storage=f"sqlite:///{tmp_path}/s.db")
    search(setting, replace(stored, trials=3), tasks, draws, 2)
    again = []
    same(search(setting, stored, tasks, draws, 2, again.append), one)
    assert sum(again) == 5 * 2 * 5


def test_progress_counts_what_was_done_before(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    search_toy(("random", "tpe"), 3, storage)
    ticks = []
    found = search_toy(("random", "tpe"), 5, storage, progress=ticks.append)
    assert ticks[0] == 2 * N_TASKS * 3
    assert sum(ticks) == 2 * N_TASKS * 5
    same(found, search_toy(("random", "tpe"), 5, None))


def wait_for_workers(url):
    """Waits until the processes of a search have noticed that it was killed."""
    with opened(url) as storage:
        studies = [study._study_id for study in storage.get_all_studies()]
        trials = [trial for study in studies for trial in storage.get_all_trials(study)]
    pids = {trial.user_attrs[WORKER].split()[1] for trial in trials if WORKER in trial.user_attrs}
    for _ in range(200):
        if not any(Path("/proc", pid).exists() for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail("its processes go on without it")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_is_killed_and_resumed_ends_with_the_same_trials(tmp_path, workers):
    """Killed at a random moment of its second round or later."""
    trials, methods = 8, QUICK
    storage = f"sqlite:///{tmp_path}/s.db"
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [
        sys.executable,
        str(HERE / "search_process.py"),
        ",".join(methods),
        str(trials),
        storage,
        "0.01",
        str(workers),
    ]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        lines = [process.stdout.readline() for _ in range(3)]
        time.sleep(random.uniform(0.0, 0.4))
        process.kill()
    assert lines[0] == "ready\n"
    assert int(lines[2]) > 0
    wait_for_workers(storage)
    ticks = []
    resumed = search_toy(methods, trials, storage, progress=ticks.append)
    total = len(methods) * N_TASKS * trials
    assert 0 < ticks[0] < total, "it was killed in the middle"
    assert sum(ticks) == total
    same(resumed, search_toy(methods, trials, None))


def test_a_storage_keeps_apart_what_differs(tmp_path):
    """None goes on with a study of other tasks, other draws or another space, or minds another method beside it."""
    storage = f"sqlite:///{tmp_path}/s.db"
    setting = make_setting()
    tasks = classification(4)
    draws = make_draws(setting, tasks)
    plan = make_plan(("random",), 3, storage)

    def known(plan, tasks, draws):
        ticks = []
        found = search(setting, plan, tasks, draws, progress=ticks.append)
        fresh = search(setting, replace(plan, storage=None), tasks, draws)
        same(found, fresh)
        return ticks[0]

    assert known(plan, tasks, draws) == 0
    assert known(plan, tasks, draws) == 12
    assert known(plan, classification(4, seed=9), draws) == 0
    assert known(plan, tasks, make_draws(setting, tasks, seed=9)) == 0
    assert known(make_plan(("random",), 3, storage, ConventionalSpace(("lr",), SUPPORT)), tasks, draws) == 0
    assert known(replace(plan, name="other"), tasks, draws) == 0
    assert known(make_plan(("random", "tpe"), 3, storage), tasks, draws) == 12
    # The first of the tasks alone are the same tasks.
    assert known(plan, take_tasks(tasks, slice(0, 2)), take_draws(draws, slice(0, 2))) == 6


def test_a_finger_print_survives_rounding_and_nothing_else():
    setting = make_setting(spec=PADDED)
    tasks = padded(2)
    draws = make_draws(setting, tasks)
    first, second = (fingerprint(take_tasks(tasks, i), take_draws(draws, i)) for i in range(2))
    assert first != second
    task, own = take_tasks(tasks, 0), take_draws(draws, 0)
    rounded = task._replace(support=task.support._replace(x=task.support.x * (1 + 1e-7)))
    assert fingerprint(rounded, own) == first
    flipped = task._replace(support=task.support._replace(y=task.support.y.flip(0)))
    assert fingerprint(flipped, own) != first
    assert fingerprint(task, own._replace(order=own.order.flip(0))) != first
