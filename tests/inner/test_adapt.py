import pytest
import torch
from inner_problems import REGIMES, conv4_problem, make_problem, mlp_problem, tiny_mlp

from metaopt.inner.adapt import adapt
from metaopt.inner.draws import take_draws
from metaopt.inner.reverse import Reverse
from metaopt.inner.unroll import unroll
from metaopt.models.objective import objective_of
from metaopt.policies.settings import PolicySettings, StrengthSettings
from metaopt.trees import take_tasks
from metaopt.types import Batch, Kind


def adapted(problem, **options):
    return adapt(problem.policy, problem.objective, problem.tasks, problem.draws, problem.horizon, **options)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("on", ["query", "test"])
def test_it_ends_where_the_unroll_ends(on, regime):
    problem = mlp_problem(regime, "element", n_tasks=3)
    found = adapted(problem, on=on)
    for i in range(3):
        task, draws = take_tasks(problem.tasks, i), take_draws(problem.draws, i)
        start = problem.policy(draws.noise)
        end, _ = unroll(start, problem.objective.loss, task.support, draws.order, problem.horizon)
        for point, params in enumerate((start.params, end)):
            loss, accuracy = problem.objective.scores(params, getattr(task, on))
            torch.testing.assert_close(found.loss[i, point], loss.detach(), rtol=1e-12, atol=0)
            assert found.accuracy[i, point] == accuracy


def test_it_ends_where_the_hypergradient_is_taken():
    problem = mlp_problem("from_scratch", "tensor")
    torch.testing.assert_close(
        adapted(problem, on="query").loss[:, -1], problem.hypergradients(Reverse()).loss, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("on", "other"), [("query", "test"), ("test", "query")])
def test_only_the_set_that_is_asked_for_is_looked_at(on, other):
    problem = mlp_problem("few_shot", "element")
    batch = getattr(problem.tasks, other)
    blind = problem._replace(
        tasks=problem.tasks._replace(**{other: Batch(torch.full_like(batch.x, torch.nan), batch.y)})
    )
    assert torch.equal(adapted(blind, on=on).loss, adapted(problem, on=on).loss)
    assert adapted(blind, on=other).loss.isnan().all()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("regime", REGIMES)
def test_the_chunk_does_not_change_the_result(regime, chunk):
    problem = mlp_problem(regime, "element", n_tasks=5)
    told = []
    found, expected = adapted(problem, chunk=chunk, progress=told.append), adapted(problem, chunk=5)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    assert torch.equal(found.accuracy, expected.accuracy)
    assert sum(told) == 5
    assert max(told) <= chunk


def test_recorded_points_are_those_of_shorter_trainings():
    problem = mlp_problem("from_scratch", "element")
    points = [0, 1, 3, 5]
    curve = adapted(problem, record=points)
    assert curve.loss.shape == curve.accuracy.shape == (2, 4)
    for i, horizon in enumerate(points):
        shorter = problem._replace(horizon=horizon)
        torch.testing.assert_close(curve.loss[:, i], adapted(shorter, record=[horizon]).loss[:, 0], rtol=1e-12, atol=0)
    assert len({round(loss, 6) for loss in curve.loss[0].tolist()}) == 4


def test_a_regression_has_no_accuracy():
    problem = mlp_problem("few_shot", "element", Kind.regression)
    found = adapted(problem)
    assert found.accuracy.isnan().all()
    assert found.loss.isfinite().all()


def test_nothing_is_kept_for_differentiation():
    assert not adapted(mlp_problem("few_shot", "element")).loss.requires_grad


def test_torchs_own_optimizers_train_task_by_task():
    settings = PolicySettings(lr=StrengthSettings("learned", 0.1, "global"), optimizer="Adam")
    problem = make_problem(settings, tiny_mlp(), horizon=4, n_tasks=2)
    found = adapted(problem, chunk=1, on="query")
    for i in range(2):
        task, draws = take_tasks(problem.tasks, i), take_draws(problem.draws, i)
        params = {name: p.detach().requires_grad_() for name, p in problem.policy.start(draws.noise).items()}
        lr = problem.policy.strength("lr")["output.weight"].item()
        optimizer = torch.optim.Adam(params.values(), lr=lr)
        for _ in range(4):
            optimizer.zero_grad()
            problem.objective.loss(params, task.support).backward()
            optimizer.step()
        # higher's Adam adds ε before the bias correction, and torch's after it.
        assert found.loss[i, -1].item() == pytest.approx(problem.objective.loss(params, task.query).item(), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 64])
def test_inductive_scores_are_those_by_the_support_sets_statistics(chunk):
    problem = conv4_problem("from_scratch", "tensor", "batch", seed=2)

    def inductive(reference):
        return objective_of(lambda params, x: problem.model.apply(params, x, reference), problem.kind).scores

    found = adapted(problem, chunk=chunk, inductive=inductive)
    expected = adapted(problem, chunk=chunk)
    assert expected.inductive is None
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    assert not torch.isclose(found.inductive.loss, found.loss).any()

    # A test set that is the support set has the same statistics both ways.
    same = adapted(problem._replace(tasks=problem.tasks._replace(test=problem.tasks.support)), inductive=inductive)
    torch.testing.assert_close(same.inductive.loss, same.loss, rtol=1e-9, atol=0)

    # Losses are means over examples: by the support set's statistics they are those of each example alone.
    n = problem.tasks.test.x.shape[1]

    def alone(i):
        test = Batch(problem.tasks.test.x[:, i : i + 1], problem.tasks.test.y[:, i : i + 1])
        return adapted(problem._replace(tasks=problem.tasks._replace(test=test)), inductive=inductive)

    each = [alone(i) for i in range(n)]
    torch.testing.assert_close(torch.stack([one.inductive.loss for one in each]).mean(0), found.inductive.loss)
    assert not torch.isclose(torch.stack([one.loss for one in each]).mean(0), found.loss).any()
