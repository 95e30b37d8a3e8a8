import pytest
import torch
from policy_helpers import SHAPES, fixed, learned, make_policy, trained, trained_by_torch, tree

from metaopt.policies.second_moment import normalised_step
from metaopt.policies.settings import MomentumSettings, PolicySettings

ALL = PolicySettings(
    lr=learned(0.1, "element"),
    l2=learned(0.01, "element"),
    pull=learned(0.01, "element"),
    momentum=MomentumSettings("learned"),
    schedule="step_tensor",
    preconditioner="second_moment",
)


def strength(value):
    return dict.fromkeys(tree(0), value)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_equal_strengths_make_torchs_adam(momentum, l2):
    params = tree(0)
    rule = normalised_step(strength(0.02), strength(l2) if l2 else None, momentum=momentum, decay=0.95, floor=1e-12)
    path = trained(rule, params, 7)
    betas = (momentum or 0.0, 0.95)
    expected = trained_by_torch(torch.optim.Adam, params, 7, lr=0.02, betas=betas, eps=1e-12, weight_decay=l2)
    for ours, theirs in zip(path, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_strength_acts_where_it_stands():
    params, anchor = tree(0), tree(1)
    bare = trained(normalised_step(strength(0.01)), params, 3)[-1]
    for changed in (
        {"lr": strength(0.02)},
        {"l2": strength(0.5)},
        {"pull": strength(0.5), "anchor": anchor},
        {"momentum": 0.5},
        {"schedule": strength(torch.tensor([1.0, 0.5, 2.0]))},
    ):
        found = trained(normalised_step(**({"lr": strength(0.01)} | changed)), params, 3)[-1]
        assert all(not torch.equal(found[name], bare[name]) for name in bare), changed


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_the_scale_of_the_loss_does_not_matter(factor):
    params, rule = tree(0), normalised_step(strength(0.01), momentum=0.5, floor=1e-12)
    scaled = trained(rule, params, 4, lambda p: factor * p.sin())
    torch.testing.assert_close(scaled[-1], trained(rule, params, 4, lambda p: p.sin())[-1])


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_a_gradient_that_is_always_zero_moves_nothing_and_has_a_finite_derivative(momentum):
    rule, params = normalised_step(strength(0.1), momentum=momentum), tree(0)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = trained(rule, params, 3, lambda p: zero * p)[-1]
    assert all(torch.equal(moved[name], p) for name, p in params.items())
    (grad,) = torch.autograd.grad(sum(p.sum() for p in moved.values()), zero)
    assert torch.isfinite(grad)


def test_a_tensor_counts_the_steps_as_an_int_does():
    params, rule = tree(0), normalised_step(strength(0.1), momentum=0.9)
    grads = {name: p.sin() for name, p in params.items()}
    state = rule.init(params)
    for step in range(3):
        expected, _ = rule.update(params, grads, state, step)
        found, _ = rule.update(params, grads, state, torch.tensor(step))
        torch.testing.assert_close(found, expected)


def test_a_policy_hands_it_out_and_fits_any_model_where_its_strengths_do():
    start = make_policy(ALL)(tree(1))
    assert set(start.rule.init(start.params)) == {"mean", "square"}
    assert not ALL.fits_any_model()
    assert PolicySettings(lr=learned(0.1, "global"), l2=fixed(0.1), preconditioner="second_moment").fits_any_model()
    assert "second_moment" not in ALL.learned(), "nothing in it is learned"


def test_decoupled_l2_is_that_of_adamw_to_first_order():
    names, lr, l2 = tuple(SHAPES), 1e-3, 0.5
    rule = normalised_step(dict.fromkeys(names, lr), dict.fromkeys(names, l2), momentum=0.9, floor=1e-8, decoupled=True)
    found = trained(rule, tree(0), 5)
    expected = trained_by_torch(torch.optim.AdamW, tree(0), 5, lr=lr, weight_decay=l2)
    coupled = trained(normalised_step(dict.fromkeys(names, lr), dict.fromkeys(names, l2), momentum=0.9), tree(0), 5)
    for name in names:
        torch.testing.assert_close(found[-1][name], expected[-1][name], rtol=0, atol=5e-6)
        assert not torch.allclose(coupled[-1][name], expected[-1][name], rtol=0, atol=5e-5)


def test_decoupled_l2_never_turns_a_parameter_around():
    zero = {name: torch.zeros_like(p) for name, p in tree(0).items()}
    rule = normalised_step(dict.fromkeys(SHAPES, 1.0), dict.fromkeys(SHAPES, 50.0), decoupled=True)
    params = tree(0)
    end, _ = rule.update(params, zero, rule.init(params), 0)
    assert all((end[name] * params[name] >= 0).all() for name in SHAPES)
