"""Meta-training at several horizons."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from outer_problems import SETTINGS, ignore, make_problem, make_state, make_validation, parameters, short

from metaopt.inner.reverse import Reverse
from metaopt.outer.loop import differentiate, draw_horizon, meta_train, sample
from metaopt.outer.mixture import parts_of
from metaopt.policies.settings import StrengthSettings

PLAIN = replace(SETTINGS, schedule="off")
ADAPTIVE = replace(PLAIN, rule="adaptive", l2=StrengthSettings("learned", 0.01))


class Watched:
    """Reverse mode that remembers what it was asked for."""

    def __init__(self):
        self.seen = []

    def __call__(self, policy, objective, tasks, draws, horizon, summed=False):
        self.seen.append((policy.span, horizon, draws.order.shape[1]))
        return Reverse()(policy, objective, tasks, draws, horizon, summed)


def several(settings=ADAPTIVE, horizons=(1, 2, 5), method=None):
    return replace(make_problem(settings, hypergradient=method), horizons=horizons)


def trained(problem, settings, seed=0):
    state, records = make_state(problem, settings, ADAPTIVE, seed), []
    meta_train(problem, settings, state, make_validation(problem), records.append, ignore)
    return state, records


def test_each_iteration_has_one_of_the_horizons_of_which_policy_record_and_count_know():
    method = Watched()
    state, records = trained(several(method=method), short(iterations=30, validate_every=100))
    drawn = [record["horizon"] for record in records if record["kind"] == "meta_train"]
    assert [(span, horizon) for span, horizon, _ in method.seen] == [(horizon, horizon) for horizon in drawn]
    assert {steps for *_, steps in method.seen} == {5}  # one shape, and one compiled function, for all
    assert set(drawn) == {1, 2, 5}
    assert state.inner_steps == 3 * sum(drawn)
    assert state.policy.span == 3


def test_meta_validation_is_at_the_horizon_of_the_problem():
    problem = several()
    one = replace(problem, horizons=())
    settings = short(iterations=0)
    (record,), (expected,) = (trained(each, settings)[1] for each in (problem, one))
    assert record["kind"] == expected["kind"] == "meta_validation"
    assert record["loss"] == expected["loss"]


def test_a_single_horizon_is_trained_as_before():
    problem = several(horizons=())
    state, records = trained(problem, short())
    again, others = trained(replace(problem, horizons=(3,)), short())
    assert all("horizon" not in record for record in records)
    assert state.inner_steps == again.inner_steps == 12 * 3 * 3
    assert {record["horizon"] for record in others if record["kind"] == "meta_train"} == {3}


def test_horizons_come_from_the_generator_alone_and_as_often_as_each_other():
    problem = several(horizons=(1, 2, 5))
    draws = [draw_horizon(problem, generator) for generator in [torch.Generator().manual_seed(7)] for _ in range(3000)]
    again = torch.Generator().manual_seed(7)
    assert draws == [draw_horizon(problem, again) for _ in range(3000)]
    assert all(900 < count < 1100 for count in Counter(draws).values())


def test_equal_seeds_give_equal_runs_and_others_do_not():
    runs = [trained(several(), short(), seed) for seed in (0, 0, 1)]
    (first, of_first), (second, of_second), (other, _) = runs
    assert json.dumps(of_first) == json.dumps(of_second)
    assert all(torch.equal(p, parameters(second)[name]) for name, p in parameters(first).items())
    assert not all(torch.equal(p, parameters(other)[name]) for name, p in parameters(first).items())


@pytest.mark.parametrize("horizon", [1, 3, 5])
def test_the_hypergradient_is_that_of_a_problem_with_this_horizon(horizon):
    """Tasks, noise and minibatches, too, are those of a problem that has only this one."""
    problem = several(horizons=(1, 3, 5))
    state = make_state(problem, short(), ADAPTIVE)
    (part,) = parts_of(problem, state.policy)
    found = differentiate(part.lasting(horizon), 4, torch.Generator().manual_seed(3))
    alone = replace(problem, horizon=horizon, horizons=())
    tasks, draws = sample(alone, "meta_train", 4, torch.Generator().manual_seed(3), start_noise=False)
    expected = Reverse()(state.policy.lasting(horizon), problem.objective, tasks, draws, horizon, True)
    torch.testing.assert_close(found.flat, expected.flat)
    torch.testing.assert_close(found.loss, expected.loss)
