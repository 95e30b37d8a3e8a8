from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy_helpers import HORIZON, INIT, SHAPES, fixed, learned, make_policy, trained, tree

from metaopt.errors import ConfigError
from metaopt.policies.directions import DIRECTIONS, SHARPNESS
from metaopt.policies.file import PolicyCard, load_policy_file, save_policy
from metaopt.policies.fitting import fit_policy
from metaopt.policies.policy import Policy
from metaopt.policies.reading import read_policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings
from metaopt.policies.sharpened import sharpened

SETTINGS = PolicySettings(
    name="mixed",
    lr=learned(0.05, "element"),
    l2=learned(0.05, "tensor"),
    pull=learned(0.05, "global"),
    momentum=MomentumSettings("learned", 0.7),
    schedule="step_tensor",
    init=InitSettings("scaled"),
    rule="directions",
)
FIXED = replace(SETTINGS, lr=fixed(0.05), momentum=MomentumSettings("fixed", 0.7))
each_direction = pytest.mark.parametrize("direction", DIRECTIONS)
each_settings = pytest.mark.parametrize("settings", [SETTINGS, FIXED], ids=["learned", "fixed"])


def weighted(policy, weights):
    """The same policy with these weights, by direction; those that are not given have none."""
    given = torch.tensor([weights.get(name, 1e-40) for name in DIRECTIONS], dtype=torch.float64)
    with torch.no_grad():
        policy.own["weights"].copy_(given.log() / SHARPNESS)
    return policy


def path_of(policy, steps=HORIZON + 2):
    noise = tree(3)
    with torch.no_grad():
        start = policy(noise)
        return trained(start.rule, start.params, steps)


@each_settings
@each_direction
def test_a_mixture_of_one_direction_trains_as_the_policy_that_it_is_sharpened_into(direction, settings):
    policy = weighted(make_policy(settings), {direction: 1.0})
    alone, (choice,), _ = sharpened(policy)
    assert choice.name == direction
    assert alone.settings.rule == "strengths"
    assert not any(name.startswith("own") for name, _ in alone.named_parameters())
    for ours, theirs in zip(path_of(alone), path_of(policy), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_a_step_of_the_mixture_is_the_weighted_mean_of_those_of_its_directions():
    weights = dict(zip(DIRECTIONS, (0.1, 0.3, 0.2, 0.15, 0.25), strict=True))
    policy, start = make_policy(SETTINGS), tree(0)
    found = path_of(weighted(policy, weights), 1)[0]
    begin = policy.start(tree(3))
    alone = {name: path_of(weighted(policy, {name: 1.0}), 1)[0] for name in DIRECTIONS}
    for name in start:
        moved = sum(weights[direction] * (path[name] - begin[name]) for direction, path in alone.items())
        torch.testing.assert_close(found[name] - begin[name], moved.detach(), rtol=1e-10, atol=1e-14)
    steps = torch.stack([torch.cat([p.flatten() for p in path.values()]) for path in alone.values()])
    apart = torch.cdist(steps, steps) + torch.eye(len(steps))
    assert apart.min() > 1e-4, "two directions are the same"


@each_direction
def test_the_largest_weight_is_chosen_and_the_rates_are_multiplied(direction):
    others = {name: 0.15 for name in DIRECTIONS if name != direction}
    policy = weighted(make_policy(SETTINGS), others | {direction: 0.4})
    before = {name: p.clone() for name, p in policy.named_parameters()}
    alone, (choice,), _ = sharpened(policy, factor=3.0)
    assert choice.name == direction
    assert choice.weights == pytest.approx(others | {direction: 0.4})
    assert alone.settings.name == f"mixed ({direction})"
    rate = policy.own["rates"][DIRECTIONS.index(direction)].exp()
    rate = rate * (1 - policy.momentum()) if direction == "momentum" else rate
    for name, value in alone.strength("lr").items():
        torch.testing.assert_close(value, 3 * rate * policy.strength("lr")[name])
    for quantity in ("l2", "pull", "init_std"):
        assert alone.strength(quantity) == policy.strength(quantity), quantity
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters()), "the mixture was changed"


def test_only_a_mixture_is_sharpened():
    assert sharpened(make_policy(PolicySettings(lr=learned()))) is None


def test_the_file_of_what_was_sharpened_is_of_an_ordinary_policy_and_remembers_the_weights(tmp_path):
    weights = dict(zip(DIRECTIONS, (0.1, 0.2, 0.1, 0.5, 0.1), strict=True))
    alone = sharpened(weighted(make_policy(SETTINGS), weights)).policy
    shapes = {name: tuple(shape) for name, shape in SHAPES.items()}
    card = PolicyCard(alone.settings, HORIZON, {"name": "some"}, shapes, "digits", "0", {}, mixed=alone.mixed)
    save_policy(tmp_path / "p.safetensors", dict(alone.named_parameters()), card)

    class Model:
        shapes, init, roles, spec = SHAPES, INIT, {}, {"name": "some"}

    again = fit_policy(*load_policy_file(tmp_path / "p.safetensors"), Model, Path("p")).policy.double()
    assert again.settings.preconditioner == "second_moment"
    for ours, theirs in zip(path_of(again), path_of(alone), strict=True):
        torch.testing.assert_close(ours, theirs)
    reading = read_policy(again, (3,))
    assert reading.chosen
    assert reading.mixed == {"update direction": pytest.approx(weights)}


def test_the_weights_of_a_mixture_are_read_from_it():
    reading = read_policy(weighted(make_policy(SETTINGS), {"sgd": 0.75, "sign": 0.25}), (3,))
    assert not reading.chosen
    assert reading.mixed["update direction"] == pytest.approx({"sgd": 0.75, "sign": 0.25} | dict.fromkeys(
        ("momentum", "rmsprop", "adam"), 0.0
    ))  # fmt: skip
    assert read_policy(make_policy(PolicySettings(lr=learned())), (3,)).mixed == {}


def test_a_fresh_mixture_weighs_all_alike():
    policy = Policy(SETTINGS, SHAPES, INIT, HORIZON)
    assert [*read_policy(policy, (3,)).mixed["update direction"].values()] == pytest.approx([0.2] * 5)


def test_a_gradient_that_is_always_zero_moves_nothing_and_has_a_finite_derivative():
    policy, params = make_policy(replace(SETTINGS, l2=fixed(1e-9), pull=replace(SETTINGS.pull, mode="off"))), tree(0)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = trained(policy(tree(1)).rule, params, 3, lambda p: zero * p)[-1]
    (grad,) = torch.autograd.grad(sum(p.sum() for p in moved.values()), zero)
    assert torch.isfinite(grad)


def test_a_tensor_counts_the_steps_as_an_int_does():
    params, rule = tree(0), make_policy(SETTINGS)(tree(1)).rule
    grads = {name: p.sin() for name, p in params.items()}
    state = rule.init(params)
    for step in range(3):
        expected, new = rule.update(params, grads, state, step)
        found, _ = rule.update(params, grads, state, torch.tensor(step))
        torch.testing.assert_close(found, expected)
        state = new


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"momentum": MomentumSettings("off")}, r"policy.momentum.mode is 'off'.*use learned or fixed"),
        ({"preconditioner": "second_moment"}, r"policy.preconditioner is 'second_moment'.*use off"),
        ({"preconditioner": "curvature"}, r"policy.preconditioner is 'curvature'.*use off"),
    ],
)
def test_settings_that_leave_a_direction_without_a_meaning_are_refused(changed, words):
    with pytest.raises(ConfigError, match=words):
        replace(SETTINGS, **changed)


def test_it_fits_any_model_where_its_strengths_do():
    assert not SETTINGS.fits_any_model()
    role = replace(SETTINGS, lr=learned(0.1, "role"), l2=fixed(0.1), schedule="step_role", init=InitSettings())
    assert role.fits_any_model()
    assert "directions" in role.learned()
