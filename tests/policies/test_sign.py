import pytest
import torch
from policy_helpers import learned, make_policy, trained, tree

from metaopt.policies.settings import MomentumSettings, PolicySettings
from metaopt.policies.sign import signed, signed_step


def strength(value):
    return dict.fromkeys(tree(0), value)


def test_large_entries_move_by_their_rate_and_small_ones_in_proportion():
    g = torch.tensor([3.0, -0.5, 1e-6, 0.0], dtype=torch.float64)
    expected = torch.tensor([1.0, -1.0, 1e-3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(signed(g, floor=1e-3), expected, rtol=1e-5, atol=1e-8)


def test_the_derivative_is_that_of_the_formula_and_finite_at_zero():
    g = torch.linspace(-3e-3, 3e-3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: signed(1e-3 * x), (1e3 * g,))
    (slope,) = torch.autograd.grad(signed(g).sum(), g)
    assert torch.isfinite(slope).all()
    assert (slope > 0).all()


def test_without_a_floor_a_step_is_by_the_sign_of_the_running_mean():
    params, mu = tree(0), 0.6
    path = trained(signed_step(strength(0.1), momentum=mu, floor=1e-12), params, 4)
    before, mean = params, {name: torch.zeros_like(p) for name, p in params.items()}
    for after in path:
        for name, p in before.items():
            mean[name] = mu * mean[name] + (1 - mu) * (p.sin() + p / 2)
            torch.testing.assert_close(after[name], p - 0.1 * mean[name].sign())
        before = after


def test_every_strength_acts_where_it_stands():
    params, anchor = tree(0), tree(1)
    bare = trained(signed_step(strength(0.01)), params, 3)[-1]
    for changed in (
        {"lr": strength(0.02)},
        {"l2": strength(5.0)},
        {"pull": strength(5.0), "anchor": anchor},
        {"momentum": 0.9},
        {"schedule": strength(torch.tensor([1.0, 0.5, 2.0]))},
    ):
        found = trained(signed_step(**({"lr": strength(0.01)} | changed)), params, 3)[-1]
        assert any(not torch.equal(found[name], bare[name]) for name in bare), changed


@pytest.mark.parametrize("momentum", ["off", "learned"])
def test_a_policy_hands_it_out(momentum):
    settings = PolicySettings(lr=learned(), momentum=MomentumSettings(momentum), preconditioner="sign")
    start = make_policy(settings)(tree(1))
    assert len(start.rule.init(start.params)) == (0 if momentum == "off" else 3)
    assert "sign" not in settings.learned(), "nothing in it is learned"
    moved, _ = start.rule.update(start.params, tree(2), start.rule.init(start.params), 0)
    assert all(not torch.equal(moved[name], p) for name, p in start.params.items())
