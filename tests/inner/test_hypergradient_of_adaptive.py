"""Hypergradients of an adaptive policy, whose rule reads the loss and has a memory of its own."""

import pytest
from inner_problems import above, central_difference_errors, make_problem, summed, tiny_mlp

from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.draws import Draws
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.trace import trace_multipliers
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind


def settings(preconditioner):
    return PolicySettings(
        lr=StrengthSettings("learned", 0.1, "global"),
        l2=StrengthSettings("learned", 0.1, "global"),
        momentum=MomentumSettings("learned", 0.6),
        init=InitSettings("scaled", "role"),
        preconditioner=preconditioner,
        rule="adaptive",
    )


def problem(preconditioner="second_moment", horizon=4, batch_size=3):
    return make_problem(settings(preconditioner), tiny_mlp(), Kind.classification, (3,), horizon, batch_size)


@pytest.mark.parametrize("preconditioner", ["off", "second_moment"])
def test_hypergradients_are_those_of_central_differences(preconditioner):
    case = problem(preconditioner)
    errors = central_difference_errors(case, summed(case.hypergradients(Reverse())), steps=[1e-3, 1e-4, 1e-5])
    assert not above(errors, 1e-6)


METHODS = {
    "mixed": Mixed(),
    "mixed_forward": Mixed("forward"),
    "checkpointing": Checkpointing(2),
    "checkpointing_forward": Checkpointing(2, "forward"),
}


@pytest.mark.parametrize("way", METHODS)
def test_all_ways_agree(way):
    case = problem()
    expected, found = summed(case.hypergradients(Reverse())), summed(case.hypergradients(METHODS[way]))
    for name, grads in expected.items():
        assert (found[name] - grads).abs().max() <= 1e-8 * grads.abs().max() + 1e-13, name


@pytest.mark.parametrize("first_order", [False, True])
def test_higher_agrees(first_order):
    case = problem()
    expected = summed(case.hypergradients(Reverse(first_order)))
    found = summed(case.through(ThroughHigher, first_order=first_order))
    for name, grads in expected.items():
        assert (found[name] - grads).abs().max() <= 1e-8 * grads.abs().max() + 1e-13, name


def test_first_order_takes_the_loss_as_a_constant_in_every_way():
    case = problem()
    expected, found = (summed(case.hypergradients(method)) for method in (Reverse(True), Mixed("none")))
    for name, grads in expected.items():
        assert (found[name] - grads).abs().max() <= 1e-8 * grads.abs().max() + 1e-13, name


def test_every_number_of_the_network_has_a_hypergradient():
    found = summed(problem().hypergradients(Reverse()))
    # A role that the model does not have is no input of the network.
    absent = {"into", "straight"}
    for name, grads in found.items():
        assert (grads != 0).any() if name.rpartition(".")[2] in absent else (grads != 0).all(), name


def test_a_trace_holds_what_the_rule_did_at_each_step_of_each_task():
    case = problem()
    found = trace_multipliers(case.policy, case.objective, case.tasks, case.draws, case.horizon)
    assert list(found) == ["lr", "l2"]
    assert all(tuple(of.shape) == (2, case.horizon) for of in found["lr"].values())
    alone = Draws({n: t[:1] for n, t in case.draws.noise.items()}, case.draws.order[:1])
    first = type(case.tasks)(*(type(b)(b.x[:1], b.y[:1]) for b in case.tasks))
    again = trace_multipliers(case.policy, case.objective, first, alone, case.horizon)
    for name, of in again["l2"].items():
        assert (of[0] - found["l2"][name][0]).abs().max() < 1e-12
    assert (found["lr"]["output.weight"].diff() != 0).all()
