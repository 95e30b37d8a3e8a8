"""What all ways to the hypergradient have in common."""

from functools import cache, partial
from itertools import product

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from inner_modes import ALL, EXACT, FIRST_ORDER, fits
from inner_problems import (
    GRANULARITIES,
    REGIMES,
    above,
    central_difference_errors,
    conv4_problem,
    everything_learned,
    make_problem,
    mlp_problem,
    relative_differences,
    summed,
    tiny_mlp,
)
from inner_strategies import problems, wrong_on_whatever_was_drawn
from pairs import paired

from metaopt.inner.compile import Eager
from metaopt.inner.draws import take_draws
from metaopt.inner.hypergradient import summed_if_finite
from metaopt.inner.reverse import Reverse
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.trees import take_tasks
from metaopt.types import Batch, Kind

MODELS = ("classification", "regression", "conv4")
VALUES = ("loss", "accuracy", "support_loss")
exact_modes = pytest.mark.parametrize("mode", EXACT)
all_modes = pytest.mark.parametrize("mode", ALL)
regimes = pytest.mark.parametrize("regime", REGIMES)


@cache
def shared_problem(model, regime, granularity):
    """Problems that no test changes."""
    if model == "conv4":
        return conv4_problem(regime, granularity, "batch", seed=2)
    return mlp_problem(regime, granularity, Kind(model))


@cache
def reference(model, regime, granularity, first_order=False):
    return shared_problem(model, regime, granularity).hypergradients(Reverse(first_order))


def assert_same(found, expected, limit=1e-8):
    assert list(found.grads) == list(expected.grads)
    assert not above(relative_differences(found.grads, expected.grads), limit)
    for name in VALUES:
        values = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*values, rtol=1e-11, atol=1e-13, equal_nan=True, msg=name)


# conv4 has more numbers, element by element or with matrices for the gradients, than forward mode takes.
TOO_MANY = {("forward", "conv4", regime, "element") for regime in REGIMES} | {
    ("forward", "conv4", "few_shot", "tensor")
}
CASES = [case for case in product(EXACT, MODELS, REGIMES, GRANULARITIES) if case not in TOO_MANY]


@pytest.mark.parametrize(("mode", "model", "regime", "granularity"), paired(CASES))
def test_exact_modes_agree_with_reverse_mode(mode, model, regime, granularity):
    found = shared_problem(model, regime, granularity).hypergradients(EXACT[mode]())
    assert_same(found, reference(model, regime, granularity))


@pytest.mark.parametrize(
    ("mode", "model", "regime", "granularity"), paired(FIRST_ORDER, MODELS, REGIMES, GRANULARITIES)
)
def test_without_second_derivatives_modes_agree_with_first_order(mode, model, regime, granularity):
    found = shared_problem(model, regime, granularity).hypergradients(FIRST_ORDER[mode]())
    assert_same(found, reference(model, regime, granularity, first_order=True))


@pytest.mark.parametrize(
    "mode", ["mixed", "mixed_forward", "checkpointing", "checkpointing_2", "truncated_whole", "forward"]
)
@pytest.mark.parametrize(
    ("model", "regime", "granularity"),
    [("classification", "from_scratch", "element"), ("regression", "few_shot", "tensor")],
)
def test_hypergradients_of_an_mlp_are_those_of_central_differences(mode, model, regime, granularity):
    problem = shared_problem(model, regime, granularity)
    errors = central_difference_errors(problem, summed(problem.hypergradients(EXACT[mode]())), steps=[1e-3])
    assert not above(errors, 1e-6)


@pytest.mark.parametrize("mode", ["mixed", "mixed_forward", "forward"])
def test_hypergradients_of_conv4_are_those_of_central_differences(mode):
    problem = conv4_problem("from_scratch", "global", "batch", seed=3)
    grads = summed(problem.hypergradients(EXACT[mode]()))
    assert not above(central_difference_errors(problem, grads, steps=[1e-3, 1e-4, 1e-5]), 1e-6)


@hypothesis.settings(max_examples=30)
@hypothesis.given(problem=problems(), mode=st.sampled_from(list(EXACT)), chunk=st.sampled_from([1, 2, 64]))
def test_exact_modes_agree_on_whatever_can_be_configured(problem, mode, chunk):
    hypothesis.assume(fits(mode, problem))
    found, expected = (problem.hypergradients(method) for method in (EXACT[mode](chunk=chunk), Reverse()))
    assert not wrong_on_whatever_was_drawn(found.grads, expected.grads)
    for name in VALUES:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), equal_nan=True, msg=name)


@pytest.mark.parametrize(("mode", "granularity", "regime"), paired(ALL, GRANULARITIES, REGIMES))
def test_every_learned_quantity_has_a_hypergradient(mode, regime, granularity):
    problem = shared_problem("classification", regime, granularity)
    found = problem.hypergradients(ALL[mode]())
    assert list(found.grads) == [name for name, _ in problem.policy.named_parameters()]
    for name, grads in found.grads.items():
        assert (grads.reshape(len(grads), -1).abs().amax(1) > 0).all(), name
        if name.startswith("log_schedule"):
            assert grads.abs().min() > 0, f"{name} has a step without a hypergradient"


@pytest.mark.parametrize("chunk", [2, 3, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 5))])
@all_modes
def test_chunks_change_nothing(mode, chunk):
    problem = shared_five("classification")
    assert_same(problem.hypergradients(ALL[mode](chunk=chunk)), together_five("classification", mode), 1e-11)


@all_modes
def test_convolutions_without_vmap_change_nothing(mode):
    problem = shared_five("conv4")
    assert_same(problem.hypergradients(ALL[mode](chunk=1)), together_five("conv4", mode), 1e-10)


@cache
def shared_five(model):
    """Five tasks, or fewer where a task costs more."""
    if model == "conv4":
        return conv4_problem("from_scratch", "tensor", "batch", n_tasks=3, seed=2)
    return mlp_problem("from_scratch", "element", n_tasks=5)


@cache
def together_five(model, mode):
    return shared_five(model).hypergradients(ALL[mode]())


@all_modes
def test_a_task_has_the_hypergradient_that_it_has_alone(mode):
    problem, together = shared_five("classification"), together_five("classification", mode)
    one = slice(3, 4)
    alone = problem._replace(tasks=take_tasks(problem.tasks, one), draws=take_draws(problem.draws, one))
    found = alone.hypergradients(ALL[mode]())
    assert not above(relative_differences(found.grads, {n: g[one] for n, g in together.grads.items()}), 1e-11)
    assert found.support_loss.item() == pytest.approx(together.support_loss[3].item(), rel=1e-12)


@pytest.mark.parametrize(
    ("where", "factor"), [("support", torch.nan), ("query", torch.nan), ("support", 1e200)], ids=str
)
@all_modes
def test_a_task_that_is_not_finite_leaves_the_others_alone(mode, where, factor):
    problem = make_problem(everything_learned("few_shot", "element"), tiny_mlp(activation="relu"), n_tasks=3)
    batch = getattr(problem.tasks, where)
    x = batch.x.clone()
    x[1] *= factor
    spoilt = problem._replace(tasks=problem.tasks._replace(**{where: Batch(x, batch.y)}))
    expected, found = (p.hypergradients(ALL[mode]()) for p in (problem, spoilt))
    torch.testing.assert_close(found.flat[[0, 2]], expected.flat[[0, 2]], rtol=1e-11, atol=1e-14)
    assert found.loss.isfinite().tolist() == [True, False, True]
    assert not found.flat[1].isfinite().all()


@pytest.mark.parametrize(("mode", "chunk", "regime"), paired(ALL, (1, 2, 64), REGIMES))
def test_summed_hypergradients_are_the_sums_of_those_of_the_tasks(mode, chunk, regime):
    problem = mlp_problem(regime, "tensor", n_tasks=3)
    apart = problem.hypergradients(ALL[mode]())
    together = problem.hypergradients(partial(ALL[mode](chunk=chunk), summed=True))
    assert together.flat.shape[0] == -(-3 // chunk), "a row for each group"
    assert not above(relative_differences(summed(together), summed(apart)), 1e-12)
    for i in (2, 3, 4):
        torch.testing.assert_close(together[i], apart[i], rtol=1e-12, atol=0, equal_nan=True)


@all_modes
def test_where_a_sum_would_not_be_finite_the_tasks_are_told_apart(mode):
    problem = mlp_problem("few_shot", "tensor", n_tasks=3)
    x = problem.tasks.support.x.clone()
    x[1] = torch.nan
    spoilt = problem._replace(tasks=problem.tasks._replace(support=Batch(x, problem.tasks.support.y)))
    found = spoilt.hypergradients(partial(summed_if_finite, ALL[mode]()))
    expected = problem.hypergradients(ALL[mode]())
    torch.testing.assert_close(found.flat[[0, 2]], expected.flat[[0, 2]], rtol=1e-11, atol=1e-14)
    assert not found.finite
    assert problem.hypergradients(partial(summed_if_finite, ALL[mode]())).flat.shape[0] == 1


@all_modes
def test_the_policy_is_left_as_it_was_and_no_graph_is_kept(mode):
    problem = mlp_problem("few_shot", "element")
    before = {name: p.clone() for name, p in problem.policy.named_parameters()}
    found = problem.hypergradients(ALL[mode]())
    for name, p in problem.policy.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.grad is None
        assert p.requires_grad
        assert found.grads[name].shape == (2, *p.shape)
    for values in (found.flat, found.loss, found.accuracy, found.support_loss):
        assert not values.requires_grad, "a graph would be kept alive"
        assert values.shape[0] == 2


@all_modes
def test_it_does_not_matter_whether_gradients_are_switched_off_outside(mode):
    problem = shared_problem("classification", "few_shot", "tensor")
    with torch.enable_grad():
        expected = problem.hypergradients(ALL[mode]())
        assert torch.is_grad_enabled()
    with torch.no_grad():
        found = problem.hypergradients(ALL[mode]())
        assert not torch.is_grad_enabled()
    assert torch.equal(found.flat, expected.flat)
    assert not expected.flat.requires_grad


@regimes
@all_modes
def test_a_method_is_used_again_for_other_values_tasks_horizons_and_policies(mode, regime):
    """What it keeps from call to call must depend on the structure alone."""
    method = ALL[mode]()
    problem = mlp_problem(regime, "tensor")
    problem.hypergradients(method)
    with torch.no_grad():
        for p in problem.policy.parameters():
            p.mul_(0.9)
    more = mlp_problem(regime, "tensor", n_tasks=3, seed=5)
    variants = {
        "values": problem,
        "tasks": problem._replace(tasks=more.tasks, draws=more.draws),
        "horizon": problem._replace(horizon=2),
        "policy": problem._replace(policy=more.policy),
        "structure": problem._replace(policy=mlp_problem(regime, "element").policy),
        "model": mlp_problem(regime, "tensor", Kind.regression),
        "loss": problem._replace(objective=halved(problem.objective)),
    }
    for what, variant in variants.items():
        found, expected = (variant.hypergradients(each) for each in (method, ALL[mode]()))
        assert torch.equal(found.flat, expected.flat), what
        assert torch.equal(found.loss, expected.loss), what


def halved(objective):
    """The same with half of the loss."""

    def scores(params, batch):
        loss, accuracy = objective.scores(params, batch)
        return loss / 2, accuracy

    return objective._replace(loss=lambda params, batch: objective.loss(params, batch) / 2, scores=scores)


class TensorSteps(Eager):
    """Steps in the form that compiled functions take them."""

    def steps(self, horizon):
        return [torch.tensor(step) for step in range(horizon)]


@pytest.mark.parametrize("mode", EXACT)
@regimes
def test_steps_may_be_tensors(mode, regime):
    problem = shared_problem("classification", regime, "tensor")
    found = problem.hypergradients(EXACT[mode](compiler=TensorSteps()))
    assert_same(found, reference("classification", regime, "tensor"))


@pytest.mark.parametrize("options", [{}, {"compiler": TensorSteps()}], ids=["ints", "tensors"])
@exact_modes
def test_beyond_the_schedule_its_last_factor_holds(mode, options):
    settings = PolicySettings(
        lr=StrengthSettings("learned", 0.3, "tensor"), schedule="step_tensor", init=InitSettings("learned")
    )
    problem = make_problem(settings, tiny_mlp(), horizon=2)._replace(horizon=5)
    found = problem.hypergradients(EXACT[mode](**options))
    assert_same(found, problem.hypergradients(Reverse()))


@all_modes
def test_a_policy_of_fixed_strengths_and_one_number_is_enough(mode):
    # The beginning does not depend on the policy, and neither the memory nor the pull exists.
    problem = make_problem(PolicySettings(lr=StrengthSettings("learned", 0.3, "global")), tiny_mlp(), horizon=2)
    found = problem.hypergradients(ALL[mode]())
    assert found.flat.shape == (2, 1)
    errors = central_difference_errors(problem, summed(found), steps=[1e-3])
    assert mode in ("first_order", "mixed_none", "truncated_1_none") or not above(errors, 1e-6)
