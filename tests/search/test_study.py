import math
import os
import socket
import subprocess
import sys
from functools import cache
from statistics import median

import optuna
import pytest
from search_helpers import GLOBAL, SUPPORT, USUAL, make_setting

from metaopt.search import study as study_module
from metaopt.search.mapping import PolicySpace, policy_space
from metaopt.search.samplers import METHODS, quiet_optuna
from metaopt.search.space import DIMENSIONS, ConventionalSpace, grid_of
from metaopt.search.storage import opened
from metaopt.search.study import WORKER, TaskStudy, Told

SPACE = ConventionalSpace(USUAL, SUPPORT)
AROUND = PolicySpace(("lr", "l2"), ("batch_size",), SUPPORT, (("batch_size", 8),))


def worth(point):
    """A loss with its minimum inside the space."""
    rate = point.get("lr", point.get("lr_multiplier", 0.3))
    schedule = point.get("schedule", "cosine")
    return abs(math.log(rate / 0.3)) + abs(point.get("momentum", 0.5) - 0.7) + (schedule != "cosine")


def told(value):
    return Told(value, False, value + 1, 0.5, 10, 0.1)


def study_of(method, space, trials, storage=None, seed=0):
    """A study of that method, the only one in its storage."""
    return TaskStudy(f"of {method}", method, space, trials, seed, storage)


def drive(study, most=10**6):
    """Asks and tells until the study, or this, wants no more; the points."""
    points = []
    while len(points) < most and (point := study.ask()) is not None:
        points.append(dict(point))
        study.tell(told(worth(point)))
    return points


@cache
def undisturbed(method, trials):
    return drive(study_of(method, SPACE, trials))


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_optuna():
        yield


@pytest.fixture
def storage(tmp_path):
    with opened(f"sqlite:///{tmp_path}/s.db") as storage:
        yield storage


@pytest.mark.parametrize("space", [SPACE, ConventionalSpace(DIMENSIONS, 200), AROUND], ids=["usual", "whole", "policy"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_proposes_inside_its_space(method, space):
    points = drive(study_of(method, space, 24 if method != "gp" else 13))
    assert len(points) == (24 if method != "gp" else 13)
    for point in points:
        assert list(point) == list(space.distributions)
        for name, value in point.items():
            assert space.distributions[name]._contains(space.distributions[name].to_internal_repr(value))
    if space is AROUND:
        assert points[0] == space.first[0]
    assert len({tuple(point.values()) for point in points}) > len(points) / 2


@pytest.mark.parametrize("method", METHODS)
def test_a_study_is_determined_by_its_seed(method):
    first, again, other = (drive(study_of(method, SPACE, 12, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("method", ["tpe", "gp", "cmaes", "genetic"])
def test_methods_learn_from_their_trials(method):
    n = {"gp": 25, "genetic": 120}.get(method, 60)
    space = ConventionalSpace(("lr", "momentum"), SUPPORT)
    study = study_of(method, space, n)
    values = [worth(point) for point in drive(study)]
    blind = [worth(point) for point in drive(study_of("random", space, n))]
    assert median(values[n // 2 :]) < 0.6 * median(blind)


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("trials", [1, 2, 3, 9])
def test_a_grid_with_fewer_points_than_trials_repeats_some(trials, around):
    space = AROUND if around else ConventionalSpace(("optimizer",), SUPPORT)
    study = study_of("grid", space, trials)
    points = drive(study)
    assert len(points) == len(study.told()) == trials
    grid = grid_of(space.distributions, trials)
    if not around:
        seen = {point["optimizer"] for point in points}
        assert seen == set(grid["optimizer"])
    else:
        assert points[0] == space.first[0]


def test_what_is_told_is_known_in_the_order_of_asking(storage):
    for where in (None, storage):
        study = study_of("random", SPACE, 5, where)
        points = drive(study)
        assert study.points() == points
        assert study.told() == [told(worth(point)) for point in points]
        assert study.ask() is None


def test_only_what_is_better_than_all_before_is_an_answer():
    study = study_of("random", SPACE, 5)
    for value, better in ((2.0, True), (3.0, False), (1.0, True), (1.0, False)):
        study.ask()
        assert study.improves(value) == better
        study.tell(told(value))


@pytest.mark.parametrize("method", METHODS)
def test_a_study_that_is_taken_up_again_ends_as_if_it_had_not_stopped(method, storage):
    n = 14 if method != "gp" else 13
    whole = study_of(method, SPACE, n)
    drive(whole)
    for stop in (0, 1, 3, 2, 1):
        drive(study_of(method, SPACE, n, storage), stop)
        if stop % 2:  # a trial that is not told, as if the process had been killed
            study_of(method, SPACE, n, storage).ask()
        else:  # or even before anything was proposed
            optuna.load_study(study_name=f"of {method}", storage=storage).ask()
    resumed = study_of(method, SPACE, n, storage)
    drive(resumed)
    assert resumed.points() == whole.points()
    assert resumed.told() == whole.told()


def test_more_trials_go_on_from_what_is_there(storage):
    whole = study_of("tpe", SPACE, 15)
    drive(whole)
    drive(study_of("tpe", SPACE, 6, storage))
    more = study_of("tpe", SPACE, 15, storage)
    assert len(more.told()) == 6
    assert len(drive(more)) == 9
    assert more.points() == whole.points()
    fewer = study_of("tpe", SPACE, 4, storage)
    assert fewer.ask() is None
    assert fewer.points() == whole.points()[:4]


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def begun_by(storage, worker):
    """A study of six trials, the third of which somebody else has begun."""
    drive(study_of("random", SPACE, 6, storage), 2)
    study_of("random", SPACE, 6, storage).ask()
    inside = optuna.load_study(study_name="of random", storage=storage)
    storage.set_trial_user_attr(inside.get_trials()[2]._trial_id, WORKER, worker)
    return study_of("random", SPACE, 6, storage)


def test_a_trial_of_a_process_that_is_no_more_is_done_again(storage):
    whole = study_of("random", SPACE, 6)
    drive(whole)
    study = begun_by(storage, f"{socket.gethostname()} {dead_process()}")
    assert drive(study) == whole.points()[2:]
    assert study.points() == whole.points()


@pytest.mark.parametrize("here", [True, False])
def test_a_trial_that_another_process_is_at_is_left_to_it(here, storage):
    """One that runs, or one elsewhere, of which nobody here knows whether it runs."""
    worker = f"{socket.gethostname()} {os.getppid()}" if here else f"elsewhere {dead_process()}"
    whole = study_of("random", SPACE, 7)
    drive(whole)
    study = begun_by(storage, worker)
    assert drive(study) == whole.points()[3:7]
    assert len(study.told()) == 6


def test_a_trial_that_is_done_again_after_later_ones_has_its_test_score(storage):
    """It is the answer after fewer trials than they are, even where they are better."""
    first = study_of("random", SPACE, 3, storage)
    first.ask()
    inside = optuna.load_study(study_name="of random", storage=storage)
    trial = inside.get_trials()[0]._trial_id
    storage.set_trial_user_attr(trial, WORKER, "elsewhere 1")
    other = study_of("random", SPACE, 3, storage)
    other.ask()
    other.tell(told(1.0))
    storage.set_trial_user_attr(trial, WORKER, f"{socket.gethostname()} {dead_process()}")
    third = study_of("random", SPACE, 3, storage)
    third.ask()
    assert third.improves(2.0)
    third.tell(told(2.0))
    third.ask()
    assert not third.improves(1.5)
    assert [each.value for each in third.told()] == [2.0, 1.0]


def test_two_that_do_the_same_trial_again_do_not_stumble(storage):
    study_of("random", SPACE, 2, storage).ask()
    one, other = (study_of("random", SPACE, 2, storage) for _ in range(2))
    assert one.ask() == other.ask()
    one.tell(told(1.0))
    other.tell(told(1.0))
    assert [each.value for each in one.told()] == [1.0]


def test_a_study_around_a_policy_begins_with_it_once(storage):
    setting = make_setting(GLOBAL, batch_size=8)
    space, _ = policy_space(setting.policy, USUAL, SUPPORT, 8, setting.model.spec)
    for method in ("tpe", "grid"):
        study_of(method, space, 6, storage)
        drive(study_of(method, space, 6, storage), 2)
        study = study_of(method, space, 6, storage)
        drive(study)
        assert study.points()[0] == space.first[0]
        assert study.points().count(space.first[0]) == 1


def test_optuna_is_quiet_and_then_as_it_was(capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        with quiet_optuna():
            drive(study_of("tpe", SPACE, 3))
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("drawn", [1, 3, 5])
@pytest.mark.parametrize("begun", [1, 12])  # drawn one by one, and jointly
@pytest.mark.parametrize("method", METHODS)
def test_a_trial_of_which_some_was_drawn_is_the_same_when_it_is_done_again(method, begun, drawn, storage, monkeypatch):
    trials = 14
    drive(study_of(method, SPACE, trials, storage), begun)
    calls = []

    def interrupted(trial, name, kind):
        if len(calls) == drawn:
            raise KeyboardInterrupt
        calls.append(name)
        return suggest(trial, name, kind)

    suggest = study_module._suggest
    monkeypatch.setattr(study_module, "_suggest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study_of(method, SPACE, trials, storage).ask()
    monkeypatch.undo()
    assert drive(study_of(method, SPACE, trials, storage)) == undisturbed(method, trials)[begun:]
