import pytest
import torch
from inner_problems import (
    EVERY_GRANULARITY,
    REGIMES,
    above,
    central_difference_errors,
    conv4_problem,
    make_problem,
    mlp_problem,
    summed,
    tiny_mlp,
)

from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind

NORMS = ("batch", "layer", "group", "none")
RULE_QUANTITIES = ("log_strengths.lr", "log_strengths.l2", "log_strengths.pull", "momentum_logit", "log_schedule")


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("granularity", EVERY_GRANULARITY)
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_hypergradients_of_an_mlp_are_those_of_central_differences(regime, granularity, kind):
    problem = mlp_problem(regime, granularity, kind)
    errors = central_difference_errors(problem, summed(problem.hypergradients(Reverse())), steps=[1e-3, 1e-4])
    assert not above(errors, 1e-6)


CONV4_CASES = [
    (norm, *case)
    for norm in NORMS
    for case in [("few_shot", "element", 2), ("from_scratch", "tensor", 1), ("from_scratch", "global", 3)]
]


# With rectifiers and max-pooling, the end of training jumps where a unit switches: these seeds are clear of it.
@pytest.mark.parametrize(("norm", "regime", "granularity", "seed"), CONV4_CASES)
def test_hypergradients_of_conv4_are_those_of_central_differences(norm, regime, granularity, seed):
    problem = conv4_problem(regime, granularity, norm, seed=seed)
    errors = central_difference_errors(problem, summed(problem.hypergradients(Reverse())), steps=[1e-3, 1e-4, 1e-5])
    assert not above(errors, 1e-6)


@pytest.mark.parametrize(("regime", "granularity"), [("few_shot", "tensor"), ("from_scratch", "global")])
def test_hypergradients_through_groups_of_channels_are_those_of_central_differences(regime, granularity):
    problem = conv4_problem(regime, granularity, "group", channels=16, n_tasks=1, seed=2)
    errors = central_difference_errors(problem, summed(problem.hypergradients(Reverse())), steps=[1e-4, 1e-5])
    assert not above(errors, 1e-6)


@pytest.mark.parametrize("granularity", EVERY_GRANULARITY)
def test_hypergradients_of_a_single_step_are_those_of_central_differences(granularity):
    settings = PolicySettings(
        lr=StrengthSettings("learned", 0.3, granularity),
        l2=StrengthSettings("learned", 0.05, granularity),
        schedule="step_tensor",
        init=InitSettings("learned"),
    )
    problem = make_problem(settings, tiny_mlp(), horizon=1)
    errors = central_difference_errors(problem, summed(problem.hypergradients(Reverse())), steps=[1e-3])
    assert not above(errors, 1e-6)


@pytest.mark.parametrize("engine", ["vmap", "higher"])
@pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])
@pytest.mark.parametrize("granularity", EVERY_GRANULARITY)
@pytest.mark.parametrize("regime", REGIMES)
def test_every_learned_quantity_has_a_hypergradient(regime, granularity, first_order, engine):
    problem = mlp_problem(regime, granularity)
    if engine == "vmap":
        found = problem.hypergradients(Reverse(first_order))
    else:
        found = problem.through(ThroughHigher, first_order=first_order)
    assert list(found.grads) == [name for name, _ in problem.policy.named_parameters()]
    for quantity in RULE_QUANTITIES:
        assert any(name.startswith(quantity) for name in found.grads), f"{quantity} is not learned here"
    matrices = any(name.startswith("curvature") for name in found.grads)
    assert matrices == (regime == "few_shot" and granularity == "tensor")
    assert not _without_gradient(found.grads)
    for name, grads in found.grads.items():
        if name.startswith("log_schedule"):
            assert grads.abs().min() > 0, f"{name} has a step without a hypergradient"


@pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("norm", NORMS)
def test_every_learned_quantity_of_conv4_has_a_hypergradient(norm, regime, first_order):
    problem = conv4_problem(regime, "element", norm, seed=2)
    assert not _without_gradient(problem.hypergradients(Reverse(first_order)).grads)


def _without_gradient(grads):
    """Names of policy parameters that some task does not move."""
    return [name for name, g in grads.items() if not (g.reshape(len(g), -1).abs().amax(1) > 0).all()]


def test_the_hypergradient_of_the_losses_is_not_that_of_the_support_or_test_set():
    # The differentiated loss is the query set's: spoiling the test set changes nothing, changing the query set does.
    problem = mlp_problem("few_shot", "tensor")
    spoilt = problem.tasks.test._replace(x=torch.full_like(problem.tasks.test.x, torch.nan))
    other = problem.tasks.query._replace(x=problem.tasks.query.x + 0.1)
    expected = summed(problem.hypergradients(Reverse()))
    same = summed(problem._replace(tasks=problem.tasks._replace(test=spoilt)).hypergradients(Reverse()))
    moved = summed(problem._replace(tasks=problem.tasks._replace(query=other)).hypergradients(Reverse()))
    for name, grad in expected.items():
        assert torch.equal(same[name], grad), name
        assert not torch.equal(moved[name], grad), name
