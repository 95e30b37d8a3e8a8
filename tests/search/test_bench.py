from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
import torch
from search_helpers import (
    BATCH,
    GLOBAL,
    HORIZON,
    MAML,
    PADDED,
    REGRESSION,
    SPEC,
    SUPPORT,
    classification,
    make_draws,
    make_setting,
    padded,
    regression,
)

from metaopt.inner.adapt import adapt
from metaopt.inner.draws import cast_draws, draw, take_draws
from metaopt.inner.padding import fit_to_width
from metaopt.models.mlp import mlp
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.search.bench import WORST, Bench, Request
from metaopt.search.folds import folds_of
from metaopt.search.space import Candidate
from metaopt.trees import cast_tasks, take_tasks

SGD = RuleSettings("sgd", 0.05, 0.01, 0.9, "cosine")
ADAMW = RuleSettings("adamw", 0.02, 0.1, 0.0, "linear")
TASKS = {SPEC: classification, REGRESSION: regression, PADDED: padded}


def candidate(settings, batch_size=None, **changes):
    return Candidate(
        "adam" if settings.adaptive else "sgd", settings.numbers(HORIZON), batch_size, tuple(changes.items())
    )


def by_hand(model, objective, settings, support, order, noise, scored):
    """Loss and accuracy after training by torch's own optimizer and autograd, one task, float64."""
    params = {name: moments.start(noise[name]).requires_grad_() for name, moments in model.init.items()}
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    options = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    optimizer = kinds[settings.optimizer](params.values(), lr=settings.lr, weight_decay=settings.l2, **options)
    factors = settings.numbers(HORIZON)["factors"]
    for step in range(HORIZON):
        optimizer.param_groups[0]["lr"] = settings.lr * float(factors[step])
        rows = slice(None) if order is None else order[step]
        optimizer.zero_grad()
        objective.loss(params, type(support)(support.x[rows], support.y[rows])).backward()
        optimizer.step()
    with torch.no_grad():
        loss, accuracy = objective.scores(params, scored)
    return float(loss), float(accuracy)


def drawn_anew(setting, model, name, size, n_support, with_noise):
    """What the bench draws for a task of this name where the comparison's draws do not fit."""
    generator = torch.Generator().manual_seed(crc32(f"{setting.seed} {name}".encode()))
    return draw(model.shapes if with_noise else {}, 1, HORIZON, size, n_support, generator)


@pytest.mark.parametrize("settings", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("spec", [SPEC, REGRESSION], ids=["classes", "regression"])
@pytest.mark.parametrize("size", [BATCH, None], ids=["minibatches", "all"])
def test_holdout_trains_on_the_support_set_and_scores_on_the_two_others(spec, settings, size):
    setting = make_setting(spec=spec, dtype=torch.float64, batch_size=size)
    tasks = TASKS[spec]()
    draws = make_draws(setting, tasks)
    results = Bench(setting, tasks, draws).run([Request(i, candidate(settings)) for i in (2, 0)], lambda *_: True)
    tasks, draws = cast_tasks(tasks, torch.float64), cast_draws(draws, torch.float64)
    objective = setting.objective(setting.model)
    for i, result in zip((2, 0), results, strict=True):
        task, own = take_tasks(tasks, i), take_draws(draws, i)
        hand = [
            by_hand(setting.model, objective, settings, task.support, own.order, own.noise, scored)
            for scored in (task.query, task.test)
        ]
        assert result.value == pytest.approx(hand[0][0], rel=5e-5)
        assert result.test == pytest.approx(hand[1], rel=1e-6, nan_ok=True)
        assert (result.diverged, result.steps) == (False, HORIZON)


def test_kfold_is_the_mean_over_folds_and_the_test_score_that_of_all_examples():
    setting = make_setting(dtype=torch.float64, folds=3, seed=5)
    tasks = classification()
    draws = make_draws(setting, tasks)
    requests = [Request(i, candidate(SGD)) for i in range(3)]
    results = Bench(setting, tasks, draws, first=10).run(requests, lambda i, value: i != 1)
    objective = setting.objective(setting.model)
    folds = cast_tasks(folds_of(tasks, SPEC, 3, 5).tasks, torch.float64)
    tasks, draws = cast_tasks(tasks, torch.float64), cast_draws(draws, torch.float64)
    for i, result in enumerate(results):
        task, own = take_tasks(tasks, i), take_draws(draws, i)
        losses = []
        for k in range(3):
            fold = take_tasks(folds, 3 * i + k)
            order = drawn_anew(setting, setting.model, f"task {10 + i} fold {k}", BATCH, 12, False).order[0]
            losses.append(by_hand(setting.model, objective, SGD, fold.support, order, own.noise, fold.query)[0])
        assert result.value == pytest.approx(np.mean(losses), rel=5e-5)
        hand = by_hand(setting.model, objective, SGD, task.support, own.order, own.noise, task.test)
        assert result.test is None if i == 1 else result.test == pytest.approx(hand, rel=1e-6)
        assert result.steps == HORIZON * (3 if i == 1 else 4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"activation": "tanh"}, {"width": 16}, {"depth": 3}, {"activation": "elu", "width": 16, "depth": 2}],
    ids=str,
)
@pytest.mark.parametrize("size", [None, 8, SUPPORT])
def test_networks_and_batch_sizes_are_the_candidates_own(changes, size):
    setting = make_setting(dtype=torch.float64)
    tasks = classification()
    draws = make_draws(setting, tasks)
    (result,) = Bench(setting, tasks, draws).run([Request(1, candidate(SGD, size, **changes))], lambda *_: True)
    model = mlp(SPEC, [changes.get("width", 8)] * changes.get("depth", 1), changes.get("activation", "relu"))
    task = take_tasks(cast_tasks(tasks, torch.float64), 1)
    own = take_draws(cast_draws(draws, torch.float64), 1)
    noise, order, _ = own
    if changes or size is not None:
        new = cast_draws(drawn_anew(setting, model, "task 1", size or BATCH, SUPPORT, bool(changes)), torch.float64)
        if size is not None:
            order = None if new.order is None else new.order[0]
        noise = {name: tensor[0] for name, tensor in new.noise.items()} if changes else noise
    hand = by_hand(model, setting.objective(model), SGD, task.support, order, noise, task.test)
    assert result.test == pytest.approx(hand, rel=1e-6)


def test_candidates_that_name_what_is_so_anyway_train_as_if_they_did_not():
    setting = make_setting()
    tasks = classification()
    bench = Bench(setting, tasks, make_draws(setting, tasks))
    plain, named = bench.run(
        [Request(1, candidate(SGD)), Request(1, candidate(SGD, BATCH, activation="relu", width=8, depth=1))],
        lambda *_: True,
    )
    assert named.value == plain.value
    assert named.test == plain.test


@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("spec", [SPEC, REGRESSION, PADDED], ids=["classes", "regression", "padded"])
def test_a_candidate_that_diverges_is_the_worst_and_is_worth_the_untrained_network(spec, folds):
    setting = make_setting(spec=spec, folds=folds)
    tasks = TASKS[spec]()
    draws = make_draws(setting, tasks)
    wild = [RuleSettings("sgd", lr, momentum=0.9) for lr in (1e6, 1e30)]
    requests = [Request(1, candidate(settings)) for settings in (*wild, SGD)]
    *diverged, sound = Bench(setting, tasks, draws).run(requests, lambda *_: True)
    assert not sound.diverged
    filled, fitted = fit_to_width(tasks, draws, setting.model.input_layer) if spec.padded else (tasks, draws)
    start = fixed_learner(Policy(PolicySettings(), setting.model.shapes, setting.model.init, 1).start, SGD)
    untrained = adapt(start, setting.objective(setting.model), filled, fitted, 0)
    for result in diverged:
        assert result.diverged
        assert np.isfinite(result.value)
        assert result.value > sound.value
        expected = (float(untrained.loss[1, 0]), float(untrained.accuracy[1, 0]))
        assert result.test == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert diverged[0].value == diverged[1].value
    if folds is None:
        query = adapt(start, setting.objective(setting.model), filled, fitted, 0, on="query")
        assert diverged[0].value == pytest.approx(WORST * float(query.loss[1, 0]), rel=5e-5)


def test_a_test_loss_that_is_not_finite_never_reaches_a_record():
    setting = make_setting(spec=REGRESSION)
    tasks = regression()
    tasks.test.x[0, 0] = 1e30  # its square is infinite, and what the test set holds is no matter of training
    tasks.test.y[0, 0] = 0
    (result,) = Bench(setting, tasks, make_draws(setting, tasks)).run([Request(0, candidate(SGD))], lambda *_: True)
    assert np.isfinite(result.test[0])
    assert result.diverged


@pytest.mark.parametrize("support", [SUPPORT, 4], ids=["ample", "fewer examples of a class than folds"])
def test_padded_tasks_train_as_in_the_comparison(support):
    tasks = padded(support=support)
    for folds in (None, 4):
        setting = make_setting(spec=PADDED, folds=folds, dtype=torch.float64)
        draws = make_draws(setting, tasks)
        mild = RuleSettings("sgd", 0.02, schedule="cosine")
        results = Bench(setting, tasks, draws).run([Request(i, candidate(mild)) for i in range(4)], lambda *_: True)
        assert not any(result.diverged for result in results)
        assert all(np.isfinite(result.value) and np.isfinite(result.test[0]) for result in results)
        filled, fitted = fit_to_width(tasks, draws, setting.model.input_layer)
        start = Policy(PolicySettings(), setting.model.shapes, setting.model.init, 1).start
        found = adapt(
            fixed_learner(start, mild, HORIZON),
            setting.objective(setting.model),
            cast_tasks(filled, torch.float64),
            cast_draws(fitted, torch.float64),
            HORIZON,
        )
        for i, result in enumerate(results):
            assert result.test == pytest.approx((float(found.loss[i, -1]), float(found.accuracy[i, -1])), rel=1e-6)


def test_results_come_in_the_order_of_the_requests_and_do_not_depend_on_each_other():
    setting = make_setting()
    tasks = classification()
    draws = make_draws(setting, tasks)
    some = [
        Request(i % 3, candidate(settings, size, **changes))
        for i, (settings, size, changes) in enumerate(
            [(SGD, None, {}), (ADAMW, 8, {}), (replace(SGD, lr=0.2), 8, {"width": 16}), (ADAMW, None, {}), (SGD, 8, {})]
        )
    ]
    together = Bench(setting, tasks, draws).run(some, lambda *_: True)
    for request, result in zip(some, together, strict=True):
        (alone,) = Bench(replace(setting, chunk=1), tasks, draws).run([request], lambda *_: True)
        assert alone.value == pytest.approx(result.value, rel=5e-5)
        assert alone.test == pytest.approx(result.test, rel=1e-5)
    # A bench with some of the tasks draws for each of them what the bench of all draws.
    part = Bench(setting, take_tasks(tasks, slice(2, 3)), take_draws(draws, slice(2, 3)), first=2)
    (alone,) = part.run([some[2]._replace(task=0)], lambda *_: True)
    assert alone.value == pytest.approx(together[2].value, rel=5e-5)


def test_conventional_settings_start_where_they_are_told():
    for fresh in (True, False):
        setting = make_setting(MAML, fresh=fresh)
        tasks = classification()
        draws = make_draws(setting, tasks)
        still = candidate(RuleSettings("sgd", 1e-30))
        (result,) = Bench(setting, tasks, draws).run([Request(0, still)], lambda *_: True)
        start = Policy(GLOBAL, setting.model.shapes, setting.model.init, 1).start if fresh else setting.policy.start
        params = start(take_draws(draws, 0).noise)
        with torch.no_grad():
            loss, _ = setting.objective(setting.model).scores(params, take_tasks(tasks, 0).test)
        assert result.test[0] == pytest.approx(float(loss), rel=1e-5)
