"""A mixture of update directions: all ways to the hypergradient, and central differences."""

from functools import cache

import pytest
import torch
from inner_modes import EXACT, FIRST_ORDER, fits
from inner_problems import (
    IMAGE,
    above,
    central_difference_errors,
    make_problem,
    relative_differences,
    summed,
    tiny_conv4,
    tiny_mlp,
)

from metaopt.inner.compile import Inductor
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.policies.directions import DIRECTIONS
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings

CASES = {
    "mlp": {"horizon": 4, "batch_size": 3},
    "conv4": {"horizon": 2, "n_support": 6, "input_shape": IMAGE, "seed": 2},
}
each_case = pytest.mark.parametrize("case", CASES)


@cache
def problem(case):
    """Which no test changes."""
    settings = PolicySettings(
        lr=StrengthSettings("learned", 0.05, "role"),
        l2=StrengthSettings("learned", 0.1, "role"),
        momentum=MomentumSettings("learned", 0.6),
        init=InitSettings("scaled", "role"),
        schedule="step_role",
        schedule_knots=2,
        rule="directions",
    )
    return make_problem(settings, tiny_mlp() if case == "mlp" else tiny_conv4("layer"), **CASES[case])


@cache
def reference(case, first_order=False):
    return problem(case).hypergradients(Reverse(first_order))


@each_case
def test_hypergradients_are_those_of_central_differences(case):
    found = summed(reference(case))
    assert not above(central_difference_errors(problem(case), found, steps=[1e-3, 1e-4, 1e-5]), 1e-6)
    for name in ("own.weights", "own.rates"):
        assert found[name].shape == (len(DIRECTIONS),)
        for k, direction in enumerate(DIRECTIONS):
            assert found[name][k].abs() > 0, (name, direction)


@each_case
def test_every_learned_quantity_has_a_hypergradient_on_every_task(case):
    for first_order in (False, True):
        for name, grads in reference(case, first_order).grads.items():
            assert (grads.reshape(len(grads), -1).abs().amax(1) > 0).all(), name


@each_case
@pytest.mark.parametrize("mode", EXACT)
def test_exact_modes_agree_with_reverse_mode(mode, case):
    assert fits(mode, problem(case))
    found = problem(case).hypergradients(EXACT[mode]())
    assert not above(relative_differences(found.grads, reference(case).grads), 1e-8)


@pytest.mark.parametrize("mode", FIRST_ORDER)
def test_without_second_derivatives_modes_agree_with_first_order(mode):
    found = problem("mlp").hypergradients(FIRST_ORDER[mode]())
    assert not above(relative_differences(found.grads, reference("mlp", first_order=True).grads), 1e-8)


def test_higher_agrees():
    found = problem("mlp").through(ThroughHigher)
    assert not above(relative_differences(found.grads, reference("mlp").grads), 1e-8)


@pytest.mark.nightly  # one compilation of this kind is tested on every push, in test_inner_losses.py
def test_compiled_steps_agree():
    failures = []
    found = problem("mlp").hypergradients(Mixed(compiler=Inductor(failures.append)))
    assert not failures
    assert not above(relative_differences(found.grads, reference("mlp").grads), 1e-8)


def test_the_sign_lets_a_derivative_through():
    """Alone, and with rates and strengths held, the sign still sees how its steps depend on where training starts."""
    policy = problem("mlp").policy
    alone = problem("mlp")
    before = policy.own["weights"].detach().clone()
    try:
        with torch.no_grad():
            policy.own["weights"].copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 50.0]))
        first, exact = (summed(alone.hypergradients(Reverse(order))) for order in (True, False))
    finally:
        with torch.no_grad():
            policy.own["weights"].copy_(before)
    key = next(name for name in exact if "init_std" in name)
    assert not torch.allclose(first[key], exact[key]), "second derivatives change nothing"
