"""A mixture of activations: all ways to the hypergradient, and central differences."""

from functools import cache

import pytest
import torch
from inner_modes import EXACT, FIRST_ORDER
from inner_problems import (
    CLASSES,
    above,
    central_difference_errors,
    everything_learned,
    make_problem,
    relative_differences,
    summed,
)

from metaopt.inner.compile import Inductor
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.models.mlp import mlp
from metaopt.types import Kind, TaskSpec

NAME = "choice.activation0/logits"
CASES = {"few_shot": ("few_shot", "tensor"), "from_scratch": ("from_scratch", "element"), "role": ("few_shot", "role")}
each_case = pytest.mark.parametrize("case", CASES)


@cache
def problem(case):
    """Which no test changes."""
    model = mlp(TaskSpec(Kind.classification, (3,), CLASSES), [4, 3], "mixture")
    return make_problem(everything_learned(*CASES[case]), model, horizon=3, batch_size=3)


@cache
def reference(case, first_order=False):
    return problem(case).hypergradients(Reverse(first_order))


@each_case
def test_hypergradients_are_those_of_central_differences(case):
    found = summed(reference(case))
    errors = central_difference_errors(problem(case), found, steps=[1e-3, 1e-4, 1e-5])
    assert not above({NAME: errors[NAME]}, 1e-6)
    assert (found[NAME].abs() > 0).all()


@each_case
@pytest.mark.parametrize("first_order", [False, True], ids=["reverse", "first_order"])
def test_the_weights_have_a_hypergradient_on_every_task(case, first_order):
    assert (reference(case, first_order).grads[NAME].abs() > 0).all()


@each_case
@pytest.mark.parametrize("mode", EXACT)
def test_exact_modes_agree_with_reverse_mode(mode, case):
    if mode == "forward" and case != "role":
        pytest.skip("more numbers than forward mode takes")
    found = problem(case).hypergradients(EXACT[mode]())
    assert not above(relative_differences(found.grads, reference(case).grads), 1e-8)


@pytest.mark.parametrize("mode", FIRST_ORDER)
def test_without_second_derivatives_modes_agree_with_first_order(mode):
    found = problem("role").hypergradients(FIRST_ORDER[mode]())
    assert not above(relative_differences(found.grads, reference("role", first_order=True).grads), 1e-8)


@each_case
def test_higher_agrees(case):
    found = problem(case).through(ThroughHigher)
    assert not above(relative_differences(found.grads, reference(case).grads), 1e-8)


@pytest.mark.nightly  # one compilation of this kind is tested on every push, in test_inner_losses.py
def test_compiled_steps_agree():
    failures = []
    found = problem("role").hypergradients(Mixed(compiler=Inductor(failures.append)))
    assert not failures
    assert not above(relative_differences(found.grads, reference("role").grads), 1e-8)


@each_case
def test_no_inner_step_trains_the_weights(case):
    policy, horizon = problem(case).policy, problem(case).horizon
    noise = {name: tensor[0] for name, tensor in problem(case).draws.noise.items()}
    start = policy(noise)
    params, state = start.params, start.rule.init(start.params)
    grads = {name: torch.ones_like(p) for name, p in params.items()}
    for step in range(horizon):
        params, state = start.rule.update(params, grads, state, step)
    for name, p in params.items():
        assert torch.equal(p, start.params[name]) == (name == "activation0.logits"), name
    assert "activation0.logits" not in policy.strength("lr")
