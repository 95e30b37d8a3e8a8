"""One method serves trainings of several lengths, of which the policy knows."""

import math
from functools import partial

import pytest
import torch
from inner_modes import EXACT
from inner_problems import above, central_difference_errors, make_problem, relative_differences, summed, tiny_mlp

from metaopt.inner import compile as module
from metaopt.inner.compile import Inductor
from metaopt.inner.draws import lengthen_draws
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.through_higher import ThroughHigher
from metaopt.inner.truncated import Truncated
from metaopt.policies.kinds import KINDS, Kind
from metaopt.policies.settings import MomentumSettings, PolicySettings, StrengthSettings

# Forward mode would carry too many tangents.
MODES = {name: make for name, make in EXACT.items() if name != "forward"}
ADAPTIVE = PolicySettings(
    lr=StrengthSettings("learned", 0.3),
    l2=StrengthSettings("learned", 0.3),
    momentum=MomentumSettings("learned", 0.6),
    rule="adaptive",
)


def problem_of(horizon, longest=5):
    """A problem whose policy is for 5 steps, and whose trainings have `horizon` of them."""
    problem = make_problem(ADAPTIVE, tiny_mlp(), horizon=longest, batch_size=3)
    return problem._replace(policy=problem.policy.lasting(horizon), horizon=horizon)


def test_hypergradients_at_another_horizon_are_those_of_central_differences():
    problem = problem_of(3)
    found = summed(problem.hypergradients(Mixed()))
    assert not above(central_difference_errors(problem, found, (1e-2, 3e-3)), 1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_one_method_has_the_right_hypergradient_at_each_horizon(mode):
    method = MODES[mode]()
    for horizon in (5, 2, 3, 5):
        problem = problem_of(horizon)
        expected = problem.hypergradients(Reverse())
        found = problem.hypergradients(method)
        assert not above(relative_differences(found.grads, expected.grads), 1e-9)
        torch.testing.assert_close(found.loss, expected.loss)


def test_the_engine_higher_is_told_as_well():
    for horizon in (2, 5):
        problem = problem_of(horizon)
        expected = problem.hypergradients(Reverse())
        assert not above(relative_differences(problem.through(ThroughHigher).grads, expected.grads), 1e-9)


@pytest.mark.parametrize("make", [Reverse, Mixed, partial(Mixed, second="forward"), partial(Mixed, second="none")])
def test_the_length_of_the_training_reaches_the_rule(make):
    """The same steps of a training that is taken to be longer are other steps."""
    problem, method = problem_of(3), make()
    first, again = problem.hypergradients(method), problem.hypergradients(method)
    longer = problem._replace(policy=problem.policy.lasting(30)).hypergradients(method)
    assert torch.equal(first.flat, again.flat)
    assert ((first.loss - longer.loss).abs() > 1e-6).all()


def by_length(strengths, own, site, plain):
    """A rule of few numbers, so that forward mode goes through it: the rate is spread over the training."""
    rates = {name: own["rate"].exp() / site.horizon for name in strengths.lr}
    return plain(strengths._replace(lr=rates))


@pytest.mark.parametrize("mode", EXACT)
def test_every_mode_hands_the_length_to_the_rule(mode, monkeypatch):
    kind = Kind(lambda _, __: {"rate": torch.tensor(0.5)}, by_length)
    monkeypatch.setitem(KINDS, "adaptive", kind)
    problem, method = problem_of(5), EXACT[mode]()
    for span in (5, 2):
        fixed = make_problem(PolicySettings(lr=StrengthSettings("learned", 1.0)), tiny_mlp(), horizon=5, batch_size=3)
        with torch.no_grad():
            rate = problem.policy.own["rate"]
            fixed.policy.log_strengths["lr"]["all"].copy_(rate - math.log(span))
            problem.policy.momentum_logit.fill_(-torch.inf)
            problem.policy.log_strengths["l2"]["all"].fill_(-torch.inf)
        fixed = fixed._replace(tasks=problem.tasks, draws=problem.draws)
        expected = fixed.hypergradients(Reverse())
        found = problem._replace(policy=problem.policy.lasting(span)).hypergradients(method)
        torch.testing.assert_close(found.loss, expected.loss)
        torch.testing.assert_close(found.grads["own.rate"], expected.grads["log_strengths.lr.all"])


class Counting:
    """Traces as the compiler does, and counts."""

    def __init__(self):
        self.traced = 0

    def __call__(self, function, tensors):
        self.traced += 1
        return lambda given: function(*given)


@pytest.mark.parametrize("make", [Mixed, Truncated])
def test_what_was_compiled_for_one_horizon_serves_the_others(make, monkeypatch):
    counting = Counting()
    monkeypatch.setattr(module, "_inductor", counting)
    method, problem, traced = make(compiler=Inductor()), problem_of(5), []
    for horizon in (3, 5, 2):
        own = problem._replace(policy=problem.policy.lasting(horizon), horizon=horizon)
        found = own.hypergradients(method)
        torch.testing.assert_close(found.flat, own.hypergradients(make()).flat)
        traced.append(counting.traced)
    assert traced == [5, 5, 5]


def test_draws_are_lengthened_by_steps_that_nobody_takes():
    problem = problem_of(5)
    longer = lengthen_draws(problem.draws, 8)
    assert longer.order.shape == (2, 8, 3)
    assert torch.equal(longer.order[:, :5], problem.draws.order)
    assert longer.noise is problem.draws.noise
    assert lengthen_draws(problem.draws, 4) is problem.draws
