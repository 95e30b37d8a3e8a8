import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from inner_problems import (
    GRANULARITIES,
    REGIMES,
    above,
    central_difference_errors,
    conv4_problem,
    make_problem,
    mlp_problem,
    relative_differences,
    summed,
    tiny_mlp,
)
from inner_strategies import problems, wrong_on_whatever_was_drawn

from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind

orders = pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])


def assert_engines_agree(problem, first_order, limit=1e-8):
    fast = problem.hypergradients(Reverse(first_order))
    slow = problem.through(ThroughHigher, first_order=first_order)
    assert not above(relative_differences(fast.grads, slow.grads), limit)
    for name in ("loss", "accuracy", "support_loss"):
        torch.testing.assert_close(
            getattr(fast, name), getattr(slow, name), rtol=1e-10, atol=1e-12, equal_nan=True, msg=name
        )


@orders
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("regime", REGIMES)
def test_the_engines_agree_on_an_mlp(regime, granularity, kind, first_order):
    assert_engines_agree(mlp_problem(regime, granularity, kind), first_order)


@orders
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("norm", ["batch", "layer", "group", "none"])
def test_the_engines_agree_on_conv4(norm, regime, granularity, first_order):
    channels = 16 if norm == "group" else 3  # two groups
    assert_engines_agree(conv4_problem(regime, granularity, norm, channels=channels, seed=2), first_order)


@hypothesis.settings(max_examples=40)
@hypothesis.given(problem=problems(), first_order=st.booleans())
def test_the_engines_agree_on_whatever_can_be_configured(problem, first_order):
    fast = problem.hypergradients(Reverse(first_order)).grads
    slow = problem.through(ThroughHigher, first_order=first_order).grads
    assert not wrong_on_whatever_was_drawn(fast, slow)


# Not ASGD: higher's derivative by its rate is off by some 4e-6.
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adamax", "Adagrad", "Adadelta", "RMSprop"])
@pytest.mark.parametrize("granularity", ["global", "tensor"])
def test_torchs_optimizers_have_the_hypergradients_of_central_differences(optimizer, granularity):
    settings = PolicySettings(
        lr=StrengthSettings("learned", 0.05, granularity), init=InitSettings("learned"), optimizer=optimizer
    )
    problem = make_problem(settings, tiny_mlp(), horizon=3, n_tasks=1)
    grads = summed(problem.through(ThroughHigher))
    rates = [name for name in grads if name.startswith("log_strengths.lr")]
    assert len(rates) == (1 if granularity == "global" else 4)
    # vmap cannot carry higher's optimizers, so the points go one by one.
    errors = central_difference_errors(problem, grads, steps=[1e-3, 1e-4], side_by_side=False)
    assert not above(errors, 1e-6)


def test_the_model_is_left_alone():
    problem = mlp_problem("few_shot", "element")
    before = [p.clone() for p in problem.model.module.parameters()]
    policy = {name: p.clone() for name, p in problem.policy.named_parameters()}
    problem.through(ThroughHigher)
    for old, new in zip(before, problem.model.module.parameters(), strict=True):
        assert torch.equal(old, new)
    for name, p in problem.policy.named_parameters():
        assert torch.equal(policy[name], p)
        assert p.grad is None
