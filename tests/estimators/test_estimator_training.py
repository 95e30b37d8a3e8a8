import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from estimator_helpers import ADAM, ADAPTIVE, NOISY, TASK, TORCHS, write_policy
from other_device import ELSEWHERE, apart

from metaopt.estimators import training
from metaopt.estimators.plan import plan
from metaopt.estimators.training import train
from metaopt.inner.draws import draw, take_draws
from metaopt.inner.unroll import unroll
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.policies.file import PolicyCard, load_policy_file
from metaopt.policies.fitting import fit_policy
from metaopt.types import Batch, Kind

MODEL = mlp(TASK, [5, 6])
STEPS = 15


def table(rows=40):
    x = torch.randn(rows, 7, generator=torch.Generator().manual_seed(1))
    return Batch(x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())


@pytest.fixture
def made(tmp_path):
    def make(settings):
        path = Path(write_policy(tmp_path / "policy.safetensors", settings))
        return fit_policy(*load_policy_file(path), MODEL, path).policy

    return make


def trained(policy, seeds, support=None, steps=STEPS, batch_size=8, **more):
    return train(policy, MODEL, Kind.classification, support or table(), steps, batch_size, seeds, **more)


@pytest.mark.parametrize("settings", [ADAM, ADAPTIVE, NOISY, TORCHS], ids=lambda settings: settings.name)
def test_each_network_is_what_the_inner_loop_makes_of_its_seed(made, settings):
    policy, support = made(settings), table()
    found = trained(policy, [3, 4])
    for i, seed in enumerate([3, 4]):
        draws = draw(
            MODEL.shapes,
            1,
            STEPS,
            8,
            len(support.x),
            torch.Generator().manual_seed(seed),
            settings.draws_noise(),
            settings.order == "progressive",
        )
        noise, order, loss_noise = take_draws(draws, 0)
        loss = objective(MODEL, Kind.classification).loss
        with torch.no_grad():
            params, last = unroll(policy.lasting(STEPS)(noise), loss, support, order, STEPS, loss_noise)
        for name, tensor in params.items():
            torch.testing.assert_close(found.weights[name][i], tensor, rtol=1e-4, atol=1e-5)
        alone = trained(policy, [seed])
        torch.testing.assert_close(alone.losses[-1], last, rtol=1e-4, atol=1e-5)
    assert found.diverged == 0


def test_the_first_network_does_not_depend_on_the_others(made):
    policy = made(ADAPTIVE)
    one, three = trained(policy, [0]), trained(policy, [0, 1, 2])
    for name, tensor in one.weights.items():
        torch.testing.assert_close(three.weights[name][0], tensor[0], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(three.weights[name][0], three.weights[name][1], atol=1e-3)
    each = torch.stack([trained(policy, [seed]).losses for seed in range(3)])
    torch.testing.assert_close(three.losses, each.mean(0), rtol=1e-4, atol=1e-5)


def test_a_minibatch_of_more_rows_than_there_are_is_all_of_them(made):
    policy = made(ADAM)
    large, whole = trained(policy, [0], batch_size=1000), trained(policy, [0], batch_size=40)
    assert all(torch.equal(large.weights[name], whole.weights[name]) for name in whole.weights)
    assert not torch.allclose(large.losses, trained(policy, [0], batch_size=8).losses)


@pytest.mark.parametrize(("rows", "steps"), [(2, 30), (3, 30), (40, 1), (40, 11), (4, 12)])
def test_a_policy_of_parts_trains_on_few_rows_and_for_few_steps(made, rows, steps):
    found = trained(made(ADAPTIVE), [0, 1], table(rows), steps)
    assert found.losses.shape == (steps,)
    assert found.losses.isfinite().all()
    assert found.diverged == 0


def test_examples_join_in_parts_where_there_are_enough(made):
    support = table(40)
    marked = Batch(support.x, torch.zeros(40, dtype=torch.int64))
    policy = made(ADAPTIVE)
    draws = training._draws(policy, MODEL, 60, 40, 40, [0])
    assert draws.order is not None
    assert [len(set(draws.order[0, step].tolist())) for step in (0, 9, 10, 11, 59)] == [10, 10, 10, 20, 40]
    assert training._draws(policy, MODEL, 60, 40, 3, [0]).order is None
    assert trained(policy, [0], marked, 60).losses[-1] < 0.1


def test_networks_that_diverge_are_left_out(made, monkeypatch):
    real = training._draws

    def with_nan(*given):
        draws = real(*given)
        draws.noise["output.bias"][1] = torch.nan
        return draws

    policy = made(ADAM)
    sound = trained(policy, [0, 2])
    monkeypatch.setattr(training, "_draws", with_nan)
    found = trained(policy, [0, 1, 2])
    assert found.diverged == 1
    torch.testing.assert_close(found.losses, sound.losses, rtol=1e-4, atol=1e-5)
    for name, tensor in sound.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=1e-5)
    everything = trained(policy, [1, 1])
    assert everything.diverged == 1
    assert len(everything.weights["output.bias"]) == 1


def test_training_takes_place_where_it_is_told_to(made):
    policy = made(ADAPTIVE)
    with apart():
        found = trained(policy, [0, 1], device=ELSEWHERE)
    assert {tensor.device.type for tensor in (found.losses, *found.weights.values())} == {"cpu"}


def test_the_state_of_torchs_generator_is_nobodys_business(tmp_path):
    path = Path(write_policy(tmp_path / "policy.safetensors", NOISY))
    before = torch.random.get_rng_state()
    trained(fit_policy(*load_policy_file(path), MODEL, path).policy, [0])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "rows", "batch_size"),
    [
        ({"inner": {"batch_size": 16}}, 500, 16),
        ({"inner": {"batch_size": None}}, 500, 500),
        ({"inner": {"batch_size": None}}, 5000, 1024),
        ({"inner": {"batch_size": True}}, 20, 20),
        ({"inner": 3}, 20, 20),
        ({}, 20, 20),
    ],
)
def test_the_plan_is_the_policys_own(config, rows, batch_size):
    card = PolicyCard(replace(ADAM, schedule="step"), 77, {}, {}, "tables", "0", config)
    assert plan(rows, card) == (77, batch_size, 1.0)


def test_large_tables_take_more_steps_up_to_a_limit_unless_a_schedule_ends():
    config = {"inner": {"batch_size": 64, "horizons": [50, 200, None]}}
    card = PolicyCard(ADAM, 100, {}, {}, "tables", "0", config)
    assert [plan(rows, card).steps for rows in (10, 640, 1280, 10_000)] == [200, 200, 400, 600]
    scheduled = replace(card, policy=replace(ADAM, schedule="step"))
    assert plan(10_000, scheduled).steps == 200


@pytest.mark.parametrize(
    ("tasks", "learned_on"),
    [
        ({"support": 64}, 64),
        ({"parts": {"small": {"support": 64}, "large": {"support": 512}, "other": 3}}, 64),
        ({"support": "many"}, None),
        (None, None),
    ],
)
def test_l2_keeps_its_weight_against_each_row(tasks, learned_on):
    card = PolicyCard(ADAM, 100, {}, {}, "tables", "0", {"tasks": tasks})
    assert plan(32, card).l2 == 1.0
    assert plan(640, card).l2 == (1.0 if learned_on is None else 0.1)


@pytest.mark.parametrize("settings", [ADAM, ADAPTIVE], ids=lambda settings: settings.name)
def test_multiplied_l2_is_that_of_a_policy_with_other_strengths(made, settings):
    weaker = made(settings)
    with torch.no_grad():
        for logs in weaker.log_strengths["l2"].values():
            logs.sub_(math.log(4.0))
    found, expected = trained(made(settings), [0], l2=0.25), trained(weaker, [0])
    plain = trained(made(settings), [0])
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found.losses, plain.losses)
