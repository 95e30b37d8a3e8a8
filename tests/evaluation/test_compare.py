import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metaopt.errors import ConfigError
from metaopt.evaluation.compare import Method, compare, curve_steps
from metaopt.inner.draws import draw
from metaopt.models.objective import Objective
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.types import Batch, Kind, TaskBatch

N_TASKS, N_CLASSES, N_INPUTS, HORIZON = 6, 3, 4, 8
SHAPES = {"weight": torch.Size([N_CLASSES, N_INPUTS]), "bias": torch.Size([N_CLASSES])}


def scores(params, batch):
    logits = batch.x @ params["weight"].T + params["bias"]
    return F.cross_entropy(logits, batch.y), (logits.argmax(-1) == batch.y).float().mean()


OBJECTIVE = Objective(lambda params, batch: scores(params, batch)[0], scores, scores)


def small(noise):
    return {name: 0.1 * tensor for name, tensor in noise.items()}


def method(name, **settings):
    return Method(name, name, fixed_learner(small, RuleSettings(**settings)))


POLICY = method("policy", optimizer="sgd", lr=0.5)
SGD = method("sgd", optimizer="sgd", lr=0.01)
ADAM = method("adam", optimizer="adam", lr=0.1)


@pytest.fixture
def tasks():
    """Tasks of three classes, which are the corners nearest to the inputs."""
    generator = torch.Generator().manual_seed(0)
    corners = 2.0 * torch.randn(N_TASKS, N_CLASSES, N_INPUTS, generator=generator)

    def examples(n):
        y = torch.arange(n).remainder(N_CLASSES).expand(N_TASKS, n)
        x = corners[:, torch.arange(n) % N_CLASSES] + torch.randn(N_TASKS, n, N_INPUTS, generator=generator)
        return Batch(x, y)

    return TaskBatch(support=examples(12), query=examples(9), test=examples(15))


@pytest.fixture
def draws():
    return draw(SHAPES, N_TASKS, HORIZON, 4, 12, torch.Generator().manual_seed(1))


def run(*given, **options):
    """The only comparison."""
    (comparison,) = run_all(*given, **options)
    return comparison


def run_all(methods, tasks, draws, kind=Kind.classification, progress=None, objective=OBJECTIVE, **options):
    where = {"family_name": "corners", "split": "meta_test", "split_hash": "abc", "seed": 3, "notes": ("note",)}
    return compare(methods, objective, tasks, draws, HORIZON, kind=kind, progress=progress, **where, **options)


def test_methods_that_share_the_start_have_equal_untrained_losses(tasks, draws):
    found = run([POLICY, SGD, ADAM], tasks, draws).methods
    policy, sgd, adam = (found[name].curve for name in ("policy", "sgd", "adam"))
    np.testing.assert_array_equal(policy[:, 0], sgd[:, 0])
    np.testing.assert_array_equal(policy[:, 0], adam[:, 0])
    assert len(np.unique(policy[:, 0])) == N_TASKS
    assert not np.isclose(policy[:, -1], sgd[:, -1]).any()


def test_a_method_is_the_same_whoever_its_rivals_are(tasks, draws):
    twin = Method("twin", "as sgd", SGD.learner)
    found = run([POLICY, ADAM, SGD, twin], tasks, draws).methods
    alone = run([Method("policy", "as sgd", SGD.learner)], tasks, draws).methods["policy"]
    np.testing.assert_array_equal(found["sgd"].curve, found["twin"].curve)
    np.testing.assert_array_equal(found["sgd"].curve, alone.curve)
    assert list(found) == ["policy", "adam", "sgd", "twin"]


def test_losses_and_accuracies_are_those_of_the_test_set_after_the_horizon(tasks, draws):
    outcome = run([POLICY], tasks, draws).methods["policy"]
    for task in range(N_TASKS):
        params = small({name: tensor[task] for name, tensor in draws.noise.items()})
        rule = RuleSettings("sgd", 0.5).rule(tuple(params))
        state = rule.init(params)
        for step in range(HORIZON):
            chosen = draws.order[task, step]
            batch = Batch(tasks.support.x[task, chosen], tasks.support.y[task, chosen])
            params, state = rule.update(params, torch.func.grad(OBJECTIVE.loss)(params, batch), state, step)
        loss, accuracy = scores(params, Batch(tasks.test.x[task], tasks.test.y[task]))
        assert outcome.loss[task] == pytest.approx(loss.item(), rel=1e-4)
        assert outcome.accuracy[task] == pytest.approx(accuracy.item())
    np.testing.assert_array_equal(outcome.loss, outcome.curve[:, -1])


def test_the_query_set_has_no_part_in_it(tasks, draws):
    spoilt = tasks._replace(query=Batch(torch.full_like(tasks.query.x, torch.nan), tasks.query.y))
    expected, found = (run([POLICY], t, draws).methods["policy"] for t in (tasks, spoilt))
    np.testing.assert_array_equal(expected.curve, found.curve)


def test_diverging_methods_are_scored_as_untrained_and_counted(tasks, draws):
    exploding = method("exploding", optimizer="sgd", lr=1e38, l2=1.0)
    found = run([POLICY, exploding], tasks, draws).methods
    untrained = found["policy"].curve[:, 0]
    assert found["policy"].diverged.sum() == 0
    assert found["exploding"].diverged.sum() == N_TASKS
    np.testing.assert_array_equal(found["exploding"].loss, untrained)
    assert np.isfinite(found["exploding"].curve).all()


def test_one_spoilt_task_leaves_the_others_alone(tasks, draws):
    x = tasks.support.x.clone()
    x[2] = torch.inf
    spoilt = tasks._replace(support=Batch(x, tasks.support.y))
    expected, found = (run([POLICY], t, draws).methods["policy"] for t in (tasks, spoilt))
    np.testing.assert_array_equal(np.flatnonzero(found.diverged), [2])
    assert found.loss[2] == expected.curve[2, 0]
    np.testing.assert_allclose(np.delete(found.loss, 2), np.delete(expected.loss, 2), rtol=1e-5)


def test_costs_include_the_search(tasks, draws):
    searched = Method("tuned", "found", SGD.learner, trials=5, search_seconds=1000.0, search_steps=777)
    found = run([POLICY, searched], tasks, draws).methods
    assert found["policy"].inner_steps == N_TASKS * HORIZON
    assert found["tuned"].inner_steps == N_TASKS * HORIZON + 777
    assert found["tuned"].seconds > 1000.0
    assert (found["policy"].trials, found["tuned"].trials) == (None, 5)


def test_regression_has_no_accuracy(tasks, draws):
    def error_scores(params, batch):
        loss = scores(params, batch)[0]
        return loss, torch.full_like(loss, torch.nan)

    objective = Objective(OBJECTIVE.loss, error_scores, error_scores)
    comparison = run([POLICY], tasks, draws, kind=Kind.regression, objective=objective)
    assert comparison.kind == "regression"
    assert comparison.methods["policy"].accuracy is None
    assert np.isfinite(comparison.methods["policy"].loss).all()


def test_progress_tells_each_method_and_all_of_its_tasks(tasks, draws):
    told = {}

    def progress(name, more):
        told[name] = told.get(name, 0) + more

    run([POLICY, SGD], tasks, draws, progress=progress)
    assert told == {"policy": N_TASKS, "sgd": N_TASKS}


def shifted(reference):
    """As if predictions were normalised by the reference."""
    centre = reference.mean(0)
    return lambda params, batch: scores(params, batch._replace(x=batch.x - centre))


def test_one_training_is_scored_by_both_kinds_of_batch_statistics(tasks, draws):
    told = []
    both = run_all(
        [POLICY, SGD],
        tasks,
        draws,
        statistics=("transductive", "inductive"),
        inductive=shifted,
        progress=lambda _, n: told.append(n),
    )
    assert sum(told) == 2 * N_TASKS, "it was trained twice"
    assert [each.batch_statistics for each in both] == ["transductive", "inductive"]
    assert [("test set" in each.notes[-1], "support set" in each.notes[-1]) for each in both] == [
        (True, False),
        (False, True),
    ]
    usual = run([POLICY, SGD], tasks, draws)
    assert usual.batch_statistics is None
    assert usual.notes == ("note",)
    (alone,) = run_all([POLICY, SGD], tasks, draws, statistics=("inductive",), inductive=shifted)
    for name in ("policy", "sgd"):
        np.testing.assert_array_equal(both[0].methods[name].curve, usual.methods[name].curve)
        np.testing.assert_array_equal(both[1].methods[name].curve, alone.methods[name].curve)
        assert not np.isclose(both[0].methods[name].loss, both[1].methods[name].loss).any()
    centres = tasks.support.x.mean(1, keepdim=True)
    moved = tasks._replace(test=tasks.test._replace(x=tasks.test.x - centres))
    expected = run([POLICY, SGD], moved, draws)
    for name in ("policy", "sgd"):
        np.testing.assert_allclose(both[1].methods[name].curve, expected.methods[name].curve, rtol=1e-5)
        np.testing.assert_array_equal(both[1].methods[name].accuracy, expected.methods[name].accuracy)


@pytest.mark.parametrize(
    ("methods", "remedy"), [([SGD, POLICY], "policy before"), ([], "policy before"), ([POLICY, SGD, SGD], "repeated")]
)
def test_wrong_line_ups_are_refused(tasks, draws, methods, remedy):
    with pytest.raises(ConfigError, match=remedy):
        run(methods, tasks, draws)


@pytest.mark.parametrize("horizon", [1, 5, 25, 26, 30, 100, 999])
def test_curve_steps_go_from_0_to_the_horizon(horizon):
    steps = curve_steps(horizon)
    assert (steps[0], steps[-1]) == (0, horizon)
    assert (np.diff(steps) > 0).all()
    assert len(steps) == min(horizon + 1, 26)
