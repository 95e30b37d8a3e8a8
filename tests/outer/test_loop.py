import math

import pytest
import torch
from outer_problems import SETTINGS, ignore, make_problem, make_state, make_validation, parameters, short

from metaopt.errors import MetaTrainingError
from metaopt.inner.adapt import adapt
from metaopt.inner.hypergradient import hypergradients_of
from metaopt.inner.reverse import Reverse
from metaopt.outer.loop import HOPELESS, Validation, clip_factor, meta_train, outer_step, rate_factor, sample, validate


def found_for(state, n_tasks, seed=0):
    """Random hypergradients for a policy."""
    generator = torch.Generator().manual_seed(seed)
    grads = {name: torch.randn(n_tasks, *p.shape, generator=generator) for name, p in state.policy.named_parameters()}
    values = torch.rand(3, n_tasks, generator=generator)
    return hypergradients_of(grads, *values)


def step(settings, found=None, n_tasks=4, **changes):
    """The policy before and after one outer step, and its record."""
    problem = make_problem()
    state = make_state(problem, settings)
    before = parameters(state)
    record = outer_step(state, settings, found or found_for(state, n_tasks))
    return before, parameters(state), record, state


def run(settings, problem=None, **options):
    problem = problem or make_problem()
    state = make_state(problem, settings)
    records = []
    finished = meta_train(problem, settings, state, make_validation(problem), records.append, ignore, **options)
    return state, records, finished


def spoil(found, name, task, value):
    grads = {key: g.clone() for key, g in found.grads.items()}
    grads[name].view(len(found.loss), -1)[task, 0] = value
    return found._replace(flat=hypergradients_of(grads, *found[2:]).flat)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["momentum_logit", "init.hidden0/weight", "loss"])
def test_a_task_that_is_not_finite_is_left_out_and_counted(where, value):
    settings = short(clip=None)
    found = found_for(make_state(make_problem(), settings), 4)
    if where == "loss":
        spoilt = found._replace(loss=found.loss.index_fill(0, torch.tensor([2]), value))
    else:
        spoilt = spoil(found, where, 2, value)
    rest = [0, 1, 3]
    kept = hypergradients_of({name: g[rest] for name, g in found.grads.items()}, *(v[rest] for v in found[2:]))
    _, expected, record, _ = step(settings, kept)
    _, moved, spoilt_record, state = step(settings, spoilt)
    for name in expected:
        assert torch.equal(moved[name], expected[name]), name
    assert (record["dropped"], spoilt_record["dropped"], state.dropped) == (0, 1, 1)
    assert {**spoilt_record, "dropped": 0} == record


def test_the_first_step_goes_against_the_mean_hypergradient():
    settings = short(lr=0.02, init_lr=0.003, clip=None)
    found = found_for(make_state(make_problem(), settings), 4)
    before, after, record, _ = step(settings, found)
    for name, grads in found.grads.items():
        # Adam's first step has the length of its rate in every entry.
        rate = 0.003 if name.startswith("init.") else 0.02
        torch.testing.assert_close(before[name] - after[name], rate * grads.mean(0).sign(), rtol=1e-3, atol=1e-6)
    mean = torch.cat([g.mean(0).flatten() for g in found.grads.values()])
    assert record["hypergradient_norm"] == pytest.approx(mean.norm().item())
    assert record["loss"] == pytest.approx(found.loss.mean().item())
    assert record["iteration"] == 1


def nothing_finite(found):
    return found._replace(loss=torch.full_like(found.loss, torch.nan))


def test_nothing_finite_moves_nothing_and_20_times_in_a_row_is_the_end():
    settings = short()
    state = make_state(make_problem(), settings)
    before = parameters(state)
    found = found_for(state, 4)
    for _ in range(HOPELESS - 1):
        record = outer_step(state, settings, nothing_finite(found))
        assert (record["dropped"], record["loss"], record["hypergradient_norm"]) == (4, None, None)
    for name, p in parameters(state).items():
        assert torch.equal(p, before[name]), name
    # One good iteration, and the count begins again.
    outer_step(state, settings, found)
    for _ in range(HOPELESS - 1):
        outer_step(state, settings, nothing_finite(found))
    with pytest.raises(MetaTrainingError, match=r"20 iterations on end.*outer\.lr"):
        outer_step(state, settings, nothing_finite(found))


@pytest.mark.parametrize("clip", [None, 10.0])
def test_hypergradients_too_large_for_a_mean_do_not_spoil_the_policy(clip):
    settings = short(clip=clip)
    found = found_for(make_state(make_problem(), settings), 4)
    huge = found._replace(flat=torch.full_like(found.flat, 3e38))
    before, after, record, state = step(settings, huge)
    assert all(p.isfinite().all() for p in after.values())
    outer_step(state, settings, found)
    for name, p in parameters(state).items():
        assert p.isfinite().all(), name
        assert not torch.equal(p, before[name]), f"{name} is stuck"
    assert record["hypergradient_norm"] is None


def test_a_cosine_goes_from_the_full_rate_to_zero_and_a_constant_stays():
    cosine, constant = short(iterations=100), short(iterations=100, lr_schedule="constant")
    factors = [rate_factor(cosine, i) for i in range(100)]
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.5)
    assert 0 < factors[99] < 1e-3
    assert factors == sorted(factors, reverse=True)
    assert {rate_factor(constant, i) for i in range(100)} == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_factor_reaches_each_step(schedule):
    settings = short(iterations=100, lr=0.02, lr_schedule=schedule, clip=None)
    state = make_state(make_problem(), settings)
    found = found_for(state, 4)
    for iteration in (25, 50, 75):
        state.iteration = iteration
        before = parameters(state)["momentum_logit"]
        record = outer_step(state, settings, found)
        factor = 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * iteration / 100))
        assert record["lr_factor"] == pytest.approx(factor)
        # Along the same hypergradient, each of Adam's steps has the length of its rate.
        moved = (parameters(state)["momentum_logit"] - before).abs().item()
        assert moved == pytest.approx(0.02 * factor, rel=1e-3)


def test_clipping_limits_the_global_norm_and_keeps_the_direction():
    assert clip_factor(5.0, None) == 1.0
    assert clip_factor(5.0, 10.0) == 1.0
    assert clip_factor(40.0, 10.0) == pytest.approx(0.25)


def test_a_clipped_step_is_that_of_the_shorter_hypergradient():
    found = found_for(make_state(make_problem(), short()), 4)
    norm = step(short(clip=None), found)[2]["hypergradient_norm"]
    shorter = found._replace(flat=found.flat * (0.1 / norm))
    plain, clipped = step(short(clip=None), shorter), step(short(clip=0.1), found)
    first, second = (run[3].optimizer.state_dict()["state"] for run in (plain, clipped))
    for index in first:
        torch.testing.assert_close(second[index]["exp_avg"], first[index]["exp_avg"])
    assert clipped[2]["hypergradient_norm"] == pytest.approx(norm), "the record tells the norm before clipping"


def test_validation_keeps_the_best_and_counts_since():
    problem, settings = make_problem(), short()
    state, validation = make_state(problem, settings), make_validation(problem)
    record = validate(problem, state, validation)
    expected = adapt(state.policy, problem.objective, *validation, problem.horizon, on="query").loss[:, -1]
    assert record["loss"] == state.best_loss == pytest.approx(expected.double().mean().item(), rel=1e-6)
    best = parameters(state)
    with torch.no_grad():
        for p in state.policy.parameters():
            p.sub_(3.0)  # hardly learns
    state.iteration = 4
    worse = validate(problem, state, validation)
    assert worse["loss"] > record["loss"]
    assert (state.stale, state.best_iteration, worse["best_iteration"], state.best_loss) == (1, 0, 0, record["loss"])
    for name, p in best.items():
        assert torch.equal(state.best[name], p), name
    with torch.no_grad():
        for p, kept in zip(state.policy.parameters(), best.values(), strict=True):
            p.copy_(kept)
    state.best_loss = worse["loss"]
    state.iteration = 8
    assert validate(problem, state, validation)["best_iteration"] == 8
    assert state.stale == 0


def test_the_validation_set_looks_at_its_query_sets_only():
    problem = make_problem()
    tasks, draws = make_validation(problem)
    blind = tasks._replace(test=tasks.test._replace(x=torch.full_like(tasks.test.x, torch.nan)))
    first, second = (validate(problem, make_state(problem, short()), Validation(t, draws)) for t in (tasks, blind))
    assert first["loss"] == second["loss"]


def test_a_diverging_validation_task_counts_as_untrained():
    problem = make_problem()
    state, (tasks, draws) = make_state(problem, short()), make_validation(problem)
    x = tasks.support.x.clone()
    x[1] = torch.inf
    spoilt = tasks._replace(support=tasks.support._replace(x=x))
    record = validate(problem, state, Validation(spoilt, draws))
    scores = adapt(state.policy, problem.objective, tasks, draws, problem.horizon, on="query").loss.double()
    expected = (scores[0, 1] + scores[1, 0] + scores[2, 1] + scores[3, 1]) / 4
    assert record["diverged"] == 1
    assert record["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_meta_training_learns():
    state, records, finished = run(short(iterations=80, validate_every=20, lr=0.05, meta_batch=4))
    validations = [record["loss"] for record in records if record["kind"] == "meta_validation"]
    assert finished
    assert state.best_loss == min(validations)
    assert state.best_loss < 0.3 * validations[0]


def test_each_iteration_and_validation_is_logged_once_and_in_order():
    _, records, _ = run(short(iterations=10, validate_every=4))
    expected = []
    for i in range(11):
        expected += [("meta_train", i)] if i else []
        expected += [("meta_validation", i)] if i in (0, 4, 8, 10) else []
    assert [(record["kind"], record["iteration"]) for record in records] == expected


def test_patience_stops_early():
    # A rate of nearly zero improves on nothing after the first validation, up to rounding.
    settings = short(iterations=100, validate_every=2, patience=3, lr=1e-30)
    state, records, finished = run(settings)
    assert finished
    assert state.finished
    assert (state.iteration, state.stale, state.best_iteration) == (6, 3, 0)
    assert records[-1]["kind"] == "meta_validation"


def test_a_checkpoint_is_due_every_so_often_at_a_stop_and_at_the_end():
    def saved_at(settings, **options):
        problem = make_problem()
        state, saved = make_state(problem, settings), []
        meta_train(
            problem, settings, state, make_validation(problem), ignore, lambda s: saved.append(s.iteration), **options
        )
        return saved

    assert saved_at(short(iterations=12, checkpoint_every=5)) == [5, 10, 12]
    answers = iter([False, False, True])
    assert saved_at(short(iterations=12, checkpoint_every=2), stop=lambda: next(answers)) == [2, 3]


def test_equal_seeds_give_equal_runs_and_others_do_not():
    first, again = run(short()), run(short())
    assert repr(first[1]) == repr(again[1])  # NaN is not equal to itself
    for name, p in parameters(first[0]).items():
        assert torch.equal(p, parameters(again[0])[name]), name
    problem, settings = make_problem(), short()
    other = make_state(problem, settings)
    other.generator.manual_seed(123)
    records = []
    meta_train(problem, settings, other, make_validation(problem), records.append, ignore)
    assert [record["loss"] for record in records] != [record["loss"] for record in first[1]]


def test_tasks_and_their_randomness_come_from_the_generator_alone():
    problem = make_problem()
    first, again = (sample(problem, "meta_train", 3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0].support.x, again[0].support.x)
    assert torch.equal(first[1].order, again[1].order)
    assert first[1].order.shape == (3, problem.horizon, 4)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_family_with_a_spoilt_task_is_learned_from_the_rest(first_order):
    class Spoilt(type(make_problem().family)):
        def sample(self, split, n, generator):
            tasks = super().sample(split, n, generator)
            if split == "meta_train":
                tasks.support.x[0] = torch.nan
            return tasks

    problem = make_problem(SETTINGS, hypergradient=Reverse(first_order))
    problem = type(problem)(**{**problem.__dict__, "family": Spoilt()})
    state, records, _ = run(short(iterations=6), problem)
    assert state.dropped == 6
    assert all(p.isfinite().all() for p in state.policy.parameters())
    assert all(math.isfinite(record["loss"]) for record in records)


def test_the_last_policy_is_kept_on_request_however_good_the_others_were():
    problem = make_problem()
    kept = {}
    for select in ("best", "last"):
        settings = short(select=select, lr=3.0)  # which soon makes policies worse
        state = make_state(problem, settings)
        records = []
        meta_train(problem, settings, state, make_validation(problem), records.append, ignore)
        kept[select] = state.best_iteration
        validations = [record for record in records if record["kind"] == "meta_validation"]
        assert validations[-1]["best_iteration"] == state.best_iteration
        if select == "last":
            assert all(torch.equal(state.best[name], p) for name, p in parameters(state).items())
    assert kept == {"best": 0, "last": 12}
