import itertools
import math

import pytest
import torch
from policy_helpers import INIT, SHAPES, fixed, learned, normal, tree

import metaopt.policies.learned_optimizer as module
from metaopt.errors import ConfigError
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.policies.learned_optimizer import (
    LARGEST,
    LONGEST,
    PACE,
    learned_optimizer_numbers,
    learned_optimizer_rule,
)
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Site, Strengths
from metaopt.policies.second_moment import normalised_step
from metaopt.policies.settings import MomentumSettings, PolicySettings
from metaopt.trees import row
from metaopt.types import Batch, Kind, TaskSpec

HORIZON = 10
ROLES = {"hidden.weight": "first.weight", "hidden.bias": "first.bias", "norm.weight": "first.norm"}
SETTINGS = PolicySettings(
    lr=learned(0.01, "global"),
    l2=learned(0.01, "global"),
    momentum=MomentumSettings("learned"),
    preconditioner="second_moment",
    rule="learned_optimizer",
)


def numbers_at_first(generator):
    return learned_optimizer_numbers(PolicySettings(), generator)


def make_rule(spread=0.0, seed=0, horizon=HORIZON, lr=0.01, numbers=None, **strengths):
    """The rule where learning starts, or, with a spread, with numbers far from there."""
    generator = torch.Generator().manual_seed(seed)
    own = numbers or {n: x.double() for n, x in numbers_at_first(generator).items()}
    own = {
        name: value + spread * (1.0 if name == "decays" else 1 / PACE) * normal(value.shape, generator)
        for name, value in own.items()
    }
    every = {name: value for name, value in strengths.items() if name != "momentum"}
    of_tensors = {name: dict.fromkeys(SHAPES, value) for name, value in every.items()}
    all_strengths = Strengths(dict.fromkeys(SHAPES, lr), **of_tensors, momentum=strengths.get("momentum", 0.9))
    return learned_optimizer_rule(
        all_strengths, own, Site(ROLES, dict.fromkeys(SHAPES, 1.0), horizon), lambda _: pytest.fail("not used")
    )


def noisy_gradients(steps, factor=1.0):
    params = tree(0)
    return [{name: factor * (g + params[name].sin()) for name, g in tree(i + 1).items()} for i in range(steps)]


def path(rule, gradients, params=None):
    """The parameters before the first step and after each."""
    params = params or tree(0)
    state, found = rule.init(params), [params]
    for step, grads in enumerate(gradients):
        params, state = rule.update(params, grads, state, step)
        found.append(params)
    return found


def moves(steps):
    """Of all parameters, [steps, parameters]."""
    flat = torch.stack([torch.cat([p.flatten() for p in params.values()]) for params in steps])
    return flat[1:] - flat[:-1]


@pytest.mark.parametrize("momentum", [0.9, None])
def test_at_first_it_steps_nearly_as_adam_does(momentum):
    gradients = noisy_gradients(HORIZON)
    adam = normalised_step(dict.fromkeys(SHAPES, 0.01), momentum=momentum)
    expected = moves(path(adam, gradients))
    for seed in range(5):
        found = moves(path(make_rule(seed=seed, momentum=momentum), gradients))
        assert (torch.cosine_similarity(found, expected) > 0.97).all()
        assert 0.6 < float(found.norm() / expected.norm()) < 1.3


def test_without_the_networks_weights_it_is_adam_but_for_the_bound():
    zero = {name: torch.zeros_like(x).double() for name, x in numbers_at_first(None).items()}
    zero["decays"] = numbers_at_first(None)["decays"].double()
    gradients = noisy_gradients(HORIZON)
    expected = moves(path(normalised_step(dict.fromkeys(SHAPES, 0.01), momentum=0.9), gradients))
    found = moves(path(make_rule(numbers=zero), gradients))
    start = 0
    for shape in SHAPES.values():
        ours, theirs = (part[:, start : start + shape.numel()] for part in (found, expected))
        start += shape.numel()
        short = theirs * torch.rsqrt(1 + (theirs / 0.01).square().mean(1, keepdim=True) / LONGEST**2)
        torch.testing.assert_close(ours, short, rtol=1e-5, atol=1e-9)  # decays are stored in float32


@pytest.mark.parametrize("seed", range(3))
def test_at_first_it_trains_a_network(seed):
    generator = torch.Generator().manual_seed(seed)
    model = mlp(TaskSpec(Kind.classification, (4,), 3), [16], "relu")
    policy = Policy(SETTINGS, model.shapes, model.init, 60, generator, model.roles)
    x = torch.randn(50, 4, generator=generator)
    batch = Batch(x, (x @ torch.randn(4, 3, generator=generator)).argmax(-1))
    params, rule, *_ = policy({name: torch.randn(shape, generator=generator) for name, shape in model.shapes.items()})
    loss, state = objective(model, Kind.classification).loss, rule.init(params)
    with torch.no_grad():
        first = float(loss(params, batch))
        for step in range(60):
            params, state = rule.update(params, torch.func.grad(loss)(params, batch), state, step)
        assert float(loss(params, batch)) < 0.35 * first


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_the_scale_of_the_loss_does_not_matter(factor, monkeypatch):
    monkeypatch.setattr(module, "FLOOR", 1e-12)
    plain, scaled = (path(make_rule(spread=0.5), noisy_gradients(6, each)) for each in (1.0, factor))
    torch.testing.assert_close(scaled, plain)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_learning_rate_and_the_schedule_scale_a_step(factor):
    gradients = noisy_gradients(1)
    plain = moves(path(make_rule(spread=0.5), gradients))
    torch.testing.assert_close(moves(path(make_rule(spread=0.5, lr=0.01 * factor), gradients)), factor * plain)
    schedule = torch.tensor([factor, 1.0]).double()
    torch.testing.assert_close(moves(path(make_rule(spread=0.5, schedule=schedule), gradients)), factor * plain)


def test_l2_and_pull_are_part_of_the_gradient():
    params, anchor = tree(0), tree(9)
    gradients = noisy_gradients(1)
    of_loss = {name: g + 0.3 * params[name] + 0.2 * (params[name] - anchor[name]) for name, g in gradients[0].items()}
    own = {n: x.double() for n, x in numbers_at_first(torch.Generator().manual_seed(0)).items()}
    strengths = Strengths(
        dict.fromkeys(SHAPES, 0.01), dict.fromkeys(SHAPES, 0.3), dict.fromkeys(SHAPES, 0.2), anchor, 0.9
    )
    rule = learned_optimizer_rule(
        strengths, own, Site(ROLES, dict.fromkeys(SHAPES, 1.0), HORIZON), lambda _: pytest.fail("not used")
    )
    torch.testing.assert_close(path(rule, gradients)[-1], path(make_rule(), [of_loss])[-1])


@pytest.mark.parametrize("gradients", ["noise", "explosion", "one"])
def test_whatever_was_learned_no_step_is_longer_than_the_bound(gradients):
    steps = noisy_gradients(4 * HORIZON)
    if gradients == "explosion":
        steps = [{name: g * 10.0 ** min(i, 100) for name, g in grads.items()} for i, grads in enumerate(steps)]
    if gradients == "one":
        for grads in steps:
            for g in grads.values():
                g.view(-1)[1:] = 0
    longest, bound = 0.0, 0.01 * LONGEST * math.exp(LARGEST)
    for seed in range(10):
        found = path(make_rule(spread=3.0, seed=seed), steps)
        for before, after in itertools.pairwise(found):
            for name, p in after.items():
                longest = max(longest, float((p - before[name]).square().mean().sqrt()))
    assert 0.3 * bound < longest <= bound


def test_twenty_times_its_horizon_does_not_blow_up_a_quadratic():
    curvature = {name: 10 ** (3 * normal(shape, torch.Generator().manual_seed(2))) for name, shape in SHAPES.items()}

    def loss(params):
        return float(sum((curvature[name] * p * p).sum() for name, p in params.items()))

    params, rule = tree(0), make_rule(lr=0.02)
    first, state = loss(params), rule.init(params)
    for step in range(20 * HORIZON):
        params, state = rule.update(params, {n: curvature[n] * p for n, p in params.items()}, state, step)
    assert loss(params) < 0.01 * first


def test_beyond_the_horizon_only_the_memory_of_steps_goes_on():
    """Momenta are unbiased by then, and what is read of the position has come to its end."""
    rule, params, grads = make_rule(spread=0.5, momentum=0.2), tree(0), tree(1)
    _, state = rule.update(params, grads, rule.init(params), 0)
    far, farther = (rule.update(params, grads, state, step)[0] for step in (10**5, 10**6))
    torch.testing.assert_close(far, farther, rtol=1e-12, atol=0)
    longer = make_rule(spread=0.5, momentum=0.2, horizon=10**7)
    assert not torch.allclose(longer.update(params, grads, state, 10**5)[0]["hidden.weight"], far["hidden.weight"])


def test_the_order_of_a_tensors_parameters_does_not_matter():
    order = {name: torch.randperm(shape.numel()) for name, shape in SHAPES.items()}

    def shuffled(params):
        return {name: p.flatten()[order[name]].view_as(p) for name, p in params.items()}

    gradients, rule = noisy_gradients(5), make_rule(spread=0.5)
    expected = shuffled(path(rule, gradients)[-1])
    torch.testing.assert_close(path(rule, [shuffled(g) for g in gradients], shuffled(tree(0)))[-1], expected)


def test_blocks_change_nothing(monkeypatch):
    expected = path(make_rule(spread=0.5), noisy_gradients(3))
    monkeypatch.setattr(module, "BLOCK", 5)
    torch.testing.assert_close(path(make_rule(spread=0.5), noisy_gradients(3)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("where", ["everywhere", "in part"])
@pytest.mark.parametrize("momentum", [0.9, None])
def test_gradients_of_zero_have_finite_derivatives(momentum, where):
    own = {n: x.double().requires_grad_() for n, x in numbers_at_first(torch.Generator()).items()}
    gradients = noisy_gradients(3)
    for grads in gradients:
        for g in grads.values():
            (g if where == "everywhere" else g.view(-1)[:2]).zero_()
            g.requires_grad_()
    rule = make_rule(numbers=own, momentum=momentum)
    end = sum(p.square().sum() for p in path(rule, gradients)[-1].values())
    leaves = [*own.values(), *(g for grads in gradients for g in grads.values())]
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(end, leaves))


def test_a_tensor_counts_the_steps_as_an_int_does():
    params, rule, grads = tree(0), make_rule(spread=0.5), tree(1)
    state = rule.init(params)
    for step in (0, 3, 3 * HORIZON):
        torch.testing.assert_close(
            rule.update(params, grads, state, torch.tensor(step)), rule.update(params, grads, state, step)
        )


def test_neither_parameters_nor_gradients_nor_memory_are_changed_in_place():
    rule, params, grads = make_rule(), tree(0), tree(1)
    _, state = rule.update(params, grads, rule.init(params), 0)
    trees = (params, grads, {kind: x for kind, x in state.items() if kind == "factors"})
    trees += tuple(x for kind, x in state.items() if kind != "factors")
    before = [{n: x.clone() for n, x in tensors.items()} for tensors in trees]
    first, second = (rule.update(params, grads, state, 1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    for tensors, old in zip(trees, before, strict=True):
        assert all(torch.equal(x, old[n]) for n, x in tensors.items())


def test_tasks_side_by_side_step_as_they_do_alone():
    tasks = {name: torch.stack([tree(i)[name] for i in range(3)]) for name in SHAPES}
    rule = make_rule(spread=0.5)

    def stepped(params, grads):
        return rule.update(params, grads, rule.init(params), 0)[0]

    together = torch.func.vmap(stepped)(tasks, {name: p.cos() for name, p in tasks.items()})
    for i in range(3):
        alone = {name: row(p, i) for name, p in tasks.items()}
        expected = stepped(alone, {name: p.cos() for name, p in alone.items()})
        torch.testing.assert_close({name: p[i] for name, p in together.items()}, expected)


def test_its_memory_is_four_numbers_for_a_parameter():
    policy = Policy(SETTINGS, SHAPES, INIT, HORIZON, torch.Generator(), ROLES)
    start = policy(tree(0))
    state = start.rule.init(start.params)
    assert list(state) == ["fast", "middle", "slow", "square", "factors"]
    assert state.pop("factors").shape == (len(SHAPES),)
    assert all({n: x.shape for n, x in kind.items()} == SHAPES for kind in state.values())
    assert not start.rule.reads_loss


def test_it_says_what_it_multiplies_each_tensors_rate_with():
    generator = torch.Generator().manual_seed(0)
    policy = Policy(SETTINGS, SHAPES, INIT, HORIZON, generator, ROLES).double()
    grads = tree(1)
    with torch.no_grad():
        policy.own["tensor_out"].mul_(20)
        params, rule, *_ = policy(tree(0))
        new, state = rule.update(params, grads, rule.init(params), 0)
        policy.own["tensor_out"][:, -1] = 0
        policy.own["tensor_straight"][:, -1] = 0
        params, rule, *_ = policy(tree(0))
        plain, same = rule.update(params, grads, rule.init(params), 0)
    assert rule.multipliers(same)["lr"] == dict.fromkeys(SHAPES, 1.0)
    factors = rule.multipliers(state)["lr"]
    assert len({round(float(factor), 6) for factor in factors.values()}) == len(SHAPES)
    for name, p in params.items():
        torch.testing.assert_close(new[name] - p, factors[name] * (plain[name] - p))


def test_it_fits_any_model_and_says_what_it_learns():
    assert SETTINGS.fits_any_model()
    assert SETTINGS.learned() == {"lr", "l2", "momentum", "learned_optimizer"}
    assert PolicySettings.from_json(SETTINGS.to_json()) == SETTINGS


def test_it_is_refused_without_the_second_moment_that_it_is_made_of():
    for preconditioner in ("off", "curvature"):
        with pytest.raises(ConfigError, match=r"policy\.preconditioner is .* set it to second_moment"):
            PolicySettings(lr=fixed(0.1), rule="learned_optimizer", preconditioner=preconditioner)


def test_the_size_of_a_tensor_is_known_and_changes_nothing_else():
    own = {n: x.double() for n, x in numbers_at_first(torch.Generator().manual_seed(0)).items()}
    own |= {name: torch.zeros_like(x) for name, x in own.items() if name.startswith("tensor_")}
    once, grads = {"w": tree(0)["hidden.weight"].flatten()}, [{"w": tree(i)["hidden.weight"].flatten()} for i in (1, 2)]
    rule = learned_optimizer_rule(Strengths({"w": 0.1}, momentum=0.9), own, Site({}, {"w": 1.0}, HORIZON), lambda _: _)
    twice = path(rule, [{"w": g["w"].repeat(2)} for g in grads], {"w": once["w"].repeat(2)})[-1]["w"]
    torch.testing.assert_close(twice, path(rule, grads, once)[-1]["w"].repeat(2))
