import pytest
import torch
from policy_helpers import HORIZON, fixed, learned, make_policy, trained, trained_by_torch, tree

from metaopt.policies.second_moment import normalised
from metaopt.policies.settings import MomentumSettings, PolicySettings
from metaopt.policies.step import regularised_step

SETTINGS = PolicySettings(
    lr=learned(0.1, "element"),
    l2=learned(0.01, "element"),
    pull=learned(0.01, "element"),
    momentum=MomentumSettings("learned"),
    schedule="step_tensor",
    preconditioner="second_moment",
)


def test_without_momentum_and_decay_it_is_torchs_rmsprop_of_the_unbiased_moment():
    params = tree(0)
    rates = dict.fromkeys(params, 0.01)
    path = trained(normalised(regularised_step(rates), 0.9, 1e-12), params, 6)
    expected = trained_by_torch(torch.optim.Adam, params, 6, lr=0.01, betas=(0.0, 0.9), eps=1e-12)
    for ours, theirs in zip(path, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_l2_term_is_not_normalised():
    params = tree(0)
    rates, strengths = dict.fromkeys(params, 0.01), dict.fromkeys(params, 0.3)
    path = trained(normalised(regularised_step(rates, l2=strengths), 0.9, 1e-12), params, 6)
    expected = trained_by_torch(torch.optim.AdamW, params, 6, lr=0.01, betas=(0.0, 0.9), eps=1e-12, weight_decay=0.3)
    for ours, theirs in zip(path, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-3)  # AdamW decays first and then steps


@pytest.mark.parametrize("factor", [1e-2, 1e3])
def test_the_scale_of_the_loss_does_not_matter(factor):
    params, rule = tree(0), normalised(regularised_step(dict.fromkeys(tree(0), 0.01)), floor=1e-12)
    scaled = trained(rule, params, 4, lambda p: factor * p.sin())
    torch.testing.assert_close(scaled[-1], trained(rule, params, 4, lambda p: p.sin())[-1])


def test_a_gradient_that_is_always_zero_moves_nothing_and_has_a_finite_derivative():
    rule = normalised(regularised_step(dict.fromkeys(tree(0), 0.1)))
    params = {name: p.requires_grad_() for name, p in tree(0).items()}
    last = trained(rule, params, 3, torch.zeros_like)[-1]
    assert all(torch.equal(last[name], p) for name, p in params.items())
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = trained(rule, {name: p.detach() for name, p in params.items()}, 3, lambda p: zero * p)[-1]
    (grad,) = torch.autograd.grad(sum(p.sum() for p in moved.values()), zero)
    assert torch.isfinite(grad)


def test_the_policy_hands_it_out_with_a_state_of_its_own():
    policy = make_policy(SETTINGS)
    start = policy(tree(1))
    assert set(start.rule.init(start.params)) == {"rule", "square"}
    assert SETTINGS.fits_any_model() is False
    roles = PolicySettings(lr=learned(0.1, "global"), l2=fixed(0.1), preconditioner="second_moment")
    assert roles.fits_any_model()
    assert "second_moment" not in SETTINGS.learned(), "nothing in it is learned"
    assert HORIZON > 1
