import math
from dataclasses import replace

import pytest
import torch
from policy_helpers import INIT, SHAPES, learned, make_policy, normal, tree

from metaopt.policies.adaptive import LARGEST, MULTIPLIED
from metaopt.policies.policy import Policy
from metaopt.policies.progressive import joins_at
from metaopt.policies.settings import MomentumSettings, PolicySettings

ROLES = {"hidden.weight": "first.weight", "hidden.bias": "first.bias", "norm.weight": "first.norm"}
SETTINGS = PolicySettings(
    lr=learned(0.1, "global"), l2=learned(0.2, "global"), momentum=MomentumSettings("learned"), rule="adaptive"
)
ADAMS = PolicySettings(
    lr=learned(0.1, "global"),
    l2=learned(0.2, "global"),
    momentum=MomentumSettings("learned"),
    preconditioner="second_moment",
    rule="adaptive",
)
LOSS = torch.tensor(0.7, dtype=torch.float64)


def adaptive(settings=SETTINGS, horizon=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Policy(settings, SHAPES, INIT, horizon, generator, ROLES).double()


def steps(policy, grads_at, n=3, losses=None, span=None):
    """States after each step from random parameters, with given gradients; and the last parameters."""
    rule = policy.lasting(span or policy.horizon).rule(tree(0))
    params, states = tree(1), []
    state = rule.init(params)
    for step in range(n):
        loss = LOSS if losses is None else torch.tensor(losses[step], dtype=torch.float64)
        params, state = rule.update(params, grads_at(step), state, step, loss)
        states.append(state)
    return states, params


def multipliers(state):
    return torch.cat([state["multipliers"][quantity] for quantity in MULTIPLIED])


@pytest.mark.parametrize("settings", [SETTINGS, ADAMS], ids=["sgd", "adam"])
def test_without_the_network_it_is_the_plain_step(settings):
    policy = adaptive(settings)
    with torch.no_grad():
        policy.own["out"].zero_()
        policy.own["straight"].zero_()
    plain = PolicySettings(**{**settings.__dict__, "rule": "strengths"})
    expected = Policy(plain, SHAPES, INIT, 5, roles=ROLES).double()
    expected.load_state_dict({k: v for k, v in policy.state_dict().items() if not k.startswith("own.")})
    rule, params = expected.rule(tree(0)), tree(1)
    state = rule.init(params)
    for step in range(3):
        params, state = rule.update(params, tree(2 + step), state, step)
    _, found = steps(policy, lambda step: tree(2 + step))
    for name in SHAPES:
        torch.testing.assert_close(found[name], params[name], rtol=0, atol=0)


def test_at_first_strengths_are_nearly_what_they_are_without_it():
    states, _ = steps(adaptive(), lambda step: tree(2 + step))
    assert all((multipliers(state).log().abs() < 0.5).all() for state in states)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e6])
def test_multipliers_are_bounded_and_finite_whatever_the_gradients(scale):
    policy = adaptive()
    with torch.no_grad():
        for weights in policy.own.values():
            weights.mul_(100)
    states, _ = steps(policy, lambda step: {name: scale * g for name, g in tree(2 + step).items()})
    logs = torch.cat([multipliers(state).log() for state in states])
    assert (logs.abs() <= LARGEST + 1e-9).all()


def test_hypergradients_are_finite_where_all_gradients_are_zero():
    policy = adaptive(ADAMS)
    zeros = {name: torch.zeros_like(p) for name, p in tree(0).items()}
    _, params = steps(policy, lambda _: zeros, losses=[0.0, 0.0, 0.0])
    sum(p.square().sum() for p in params.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)


def test_gradients_that_repeat_agree_and_those_at_right_angles_do_not():
    g = tree(2)
    states, _ = steps(adaptive(), lambda _: g)
    torch.testing.assert_close(states[1]["agreement"]["all"], torch.ones((), dtype=torch.float64), rtol=0, atol=1e-6)
    half = {name: torch.zeros_like(value) for name, value in g.items()}
    other = {name: torch.zeros_like(value) for name, value in g.items()}
    for name in g:
        half[name].view(-1)[0::2] = g[name].view(-1)[0::2]
        other[name].view(-1)[1::2] = g[name].view(-1)[1::2]
    states, _ = steps(adaptive(), lambda step: half if step % 2 else other)
    assert states[1]["agreement"]["all"].abs() < 1e-12
    states, _ = steps(adaptive(), lambda step: g if step % 2 else {name: -value for name, value in g.items()})
    assert (states[1]["agreement"]["tensors"] < -0.999).all()


def test_the_loss_changes_what_the_network_does():
    same = [steps(adaptive(), lambda step: tree(2 + step), losses=losses)[0][-1] for losses in ([1, 1, 1], [1, 1, 9])]
    assert not torch.allclose(multipliers(same[0]), multipliers(same[1]))


def test_a_step_without_its_loss_is_refused():
    rule = adaptive().rule(tree(0))
    assert rule.reads_loss
    with pytest.raises(ValueError, match="reads the loss"):
        rule.update(tree(1), tree(2), rule.init(tree(1)), 0)


def test_it_knows_how_long_a_training_is_and_stays_at_the_end_beyond():
    def after(n, span):
        """What the network does at step n, as if nothing had been before it."""
        rule, params = adaptive().lasting(span).rule(tree(0)), tree(1)
        return multipliers(rule.update(params, tree(2), rule.init(params), n, LOSS)[1])

    # exp(-step/4) is all that still differs at such steps.
    torch.testing.assert_close(after(400, 400), after(900, 400), rtol=0, atol=1e-12)
    assert not torch.allclose(after(100, 400), after(400, 400))
    assert not torch.allclose(after(200, 400), after(400, 800))


def test_a_step_counted_by_a_tensor_is_the_same_step():
    rule, params = adaptive(ADAMS).rule(tree(0)), tree(1)
    state = rule.init(params)
    for step in range(3):
        expected, _ = rule.update(params, tree(2), state, step, LOSS)
        found, state = rule.update(params, tree(2), state, torch.tensor(step), LOSS)
        for name in SHAPES:
            torch.testing.assert_close(found[name], expected[name])


def test_a_role_makes_a_difference():
    policy = adaptive()
    params = {"a": normal((4,), torch.Generator().manual_seed(0)), "b": normal((4,), torch.Generator().manual_seed(0))}
    shapes = {name: p.shape for name, p in params.items()}

    def of(roles):
        there = Policy(SETTINGS, shapes, dict.fromkeys(shapes, INIT["hidden.bias"]), 5, roles=roles).double()
        there.load_state_dict(policy.state_dict())
        rule = there.rule(params)
        return rule.update(params, params, rule.init(params), 0, LOSS)[1]["multipliers"]["lr"]

    alike, apart = of({"a": "first.bias", "b": "first.bias"}), of({"a": "first.bias", "b": "last.weight"})
    assert alike[0] == alike[1]
    assert apart[0] != apart[1]


def test_what_it_did_is_given_by_quantity_and_tensor():
    policy = adaptive()
    states, _ = steps(policy, lambda step: tree(2 + step))
    found = policy.rule(tree(0)).multipliers(states[-1])
    assert list(found) == ["lr", "l2"]
    assert list(found["lr"]) == list(SHAPES)
    for i, name in enumerate(SHAPES):
        assert found["l2"][name] == states[-1]["multipliers"]["l2"][i]


def test_without_l2_only_rates_are_multiplied():
    settings = PolicySettings(lr=learned(0.1, "global"), rule="adaptive")
    states, _ = steps(adaptive(settings), lambda step: tree(2 + step))
    assert list(states[-1]["multipliers"]) == ["lr"]


def test_the_fixed_policy_helper_is_without_a_network():
    assert make_policy().rule(tree(0)).multipliers is None


def test_on_new_examples_it_reads_how_much_higher_the_loss_is_than_before():
    settings = replace(SETTINGS, order="progressive")
    policy = adaptive(settings, horizon=12)
    joined = [step for step in range(12) if joins_at(step, 12, LOSS)]
    assert joined == [2, 4, 6]
    losses = [2.0 if step in joined else 1.0 for step in range(12)]
    states, _ = steps(policy, lambda step: tree(2 + step), 12, losses)
    gaps = [float(state["loss"]["gaps"]) for state in states]
    assert gaps[:2] == [0, 0]
    assert gaps[2:] == pytest.approx([math.log(2)] * 10, abs=1e-3)
    # Losses of new examples are no part of the trend.
    flat, _ = steps(policy, lambda step: tree(2 + step), 12, [1.0] * 12)
    for name in ("first", "fast", "slow"):
        assert states[-1]["loss"][name] == flat[-1]["loss"][name]
    assert not torch.allclose(multipliers(states[-1]), multipliers(flat[-1]))


def test_the_mean_gap_counts_each_part_alike():
    policy = adaptive(replace(SETTINGS, order="progressive"), horizon=12)
    losses = [1.0] * 12
    losses[2], losses[4], losses[6] = 2.0, 4.0, 8.0
    states, _ = steps(policy, lambda step: tree(2 + step), 12, losses)
    assert float(states[-1]["loss"]["gaps"]) == pytest.approx(2 * math.log(2), abs=1e-3)
    assert float(states[-1]["loss"]["gap"]) == pytest.approx(3 * math.log(2), abs=1e-3)
