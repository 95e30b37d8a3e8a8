import numpy as np
import pytest
import torch
from policy_helpers import HORIZON, INIT, SHAPES, fixed, learned, make_policy, trained, trained_by_torch, tree

from metaopt.errors import ConfigError
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings

NAMES = ["hidden.weight", "hidden.bias", "norm.weight"]
KEYS = [name.replace(".", "/") for name in NAMES]


def names_of(settings):
    return [name for name, _ in make_policy(settings).named_parameters()]


def test_meta_sgd_is_one_step_of_a_rate_for_each_parameter():
    """Li et al., 2017: θ' = θ − α ∘ ∇."""
    policy = make_policy(PolicySettings(lr=learned(), init=InitSettings("learned")), horizon=1)
    noise, grads = tree(0), tree(1)
    start, rule, _ = policy(noise)
    end, _ = rule.update(start, grads, rule.init(start), 0)
    for name, key in zip(NAMES, KEYS, strict=True):
        assert start[name] is policy.init[key], "the start does not depend on the task"
        alpha = policy.log_strengths["lr"][key].exp()
        assert alpha.shape == SHAPES[name]
        torch.testing.assert_close(end[name], policy.init[key] - alpha * grads[name], rtol=1e-14, atol=1e-14)


def test_lslr_is_a_rate_for_each_step_and_tensor():
    """Antoniou et al., 2019: α_t per parameter tensor."""
    policy = make_policy(PolicySettings(lr=fixed(0.1), schedule="step_tensor", init=InitSettings("learned")))
    start, rule, _ = policy(tree(0))
    grads = tree(1)
    for step in range(HORIZON):
        end, _ = rule.update(start, grads, rule.init(start), step)
        for name, key in zip(NAMES, KEYS, strict=True):
            factors = policy.log_schedule[key].exp()
            assert factors.shape == (HORIZON,)
            torch.testing.assert_close(
                end[name], start[name] - 0.1 * factors[step] * grads[name], rtol=1e-14, atol=1e-14
            )


def test_maml_is_plain_gradient_descent_from_a_learned_start():
    """Finn et al., 2017: one fixed rate."""
    policy = make_policy(PolicySettings(lr=fixed(0.1), init=InitSettings("learned")))
    assert all(name.startswith("init.") for name, _ in policy.named_parameters())
    start, rule, _ = policy(tree(0))
    found = trained(rule, start, 20)[-1]
    expected = trained_by_torch(torch.optim.SGD, {n: p.detach() for n, p in start.items()}, 20, lr=0.1)[-1]
    for name in NAMES:
        torch.testing.assert_close(found[name].detach(), expected[name], rtol=1e-12, atol=1e-14)


def test_learned_numbers_begin_at_their_values():
    settings = PolicySettings(
        lr=learned(0.2, "global"),
        l2=learned(0.03, "tensor"),
        pull=learned(0.5),
        momentum=MomentumSettings("learned", 0.7),
        schedule="step_tensor",
        init=InitSettings("scaled"),
    )
    policy = Policy(settings, SHAPES, INIT, HORIZON)
    for quantity, value in (("lr", 0.2), ("l2", 0.03), ("pull", 0.5), ("init_std", 1.0)):
        for strength in policy.strength(quantity).values():
            torch.testing.assert_close(strength, torch.full_like(strength, value))
    assert policy.momentum().item() == pytest.approx(0.7)
    assert all(factors.tolist() == [1.0] * HORIZON for factors in policy.schedule().values())


@pytest.mark.parametrize("quantity", ["lr", "l2", "pull"])
@pytest.mark.parametrize(
    ("granularity", "shapes"),
    [
        ("global", {"all": ()}),
        ("tensor", dict.fromkeys(KEYS, ())),
        ("element", dict(zip(KEYS, SHAPES.values(), strict=True))),
    ],
)
def test_a_granularity_says_how_many_numbers_are_learned(quantity, granularity, shapes):
    policy = make_policy(PolicySettings(**({"lr": fixed(0.1)} | {quantity: learned(0.1, granularity)})))
    found = {name: tuple(p.shape) for name, p in policy.named_parameters()}
    assert found == {f"log_strengths.{quantity}.{key}": tuple(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("mode", ["off", "fixed"])
def test_what_is_not_learned_is_not_among_the_parameters(mode):
    settings = PolicySettings(
        lr=learned(0.1, "global"),
        l2=StrengthSettings(mode, 0.1),
        pull=StrengthSettings(mode, 0.1),
        momentum=MomentumSettings(mode),
    )
    assert names_of(settings) == ["log_strengths.lr.all"]
    policy = make_policy(settings)
    assert (policy.strength("l2") is None, policy.momentum() is None) == (mode == "off", mode == "off")


def test_what_is_off_is_absent_from_the_step():
    # NaN at the anchor would come through a pull that was switched off by a zero.
    policy = make_policy(PolicySettings(lr=fixed(0.1), schedule="step"))
    _, rule, _ = policy({name: torch.full_like(t, torch.nan) for name, t in tree(0).items()})
    params = tree(1)
    assert rule.init(params) == {}
    end, _ = rule.update(params, tree(2), {}, 0)
    assert all(p.isfinite().all() for p in end.values())


def test_a_fresh_start_is_drawn_as_torch_draws():
    noise = tree(0)
    start = make_policy().start(noise)
    torch.testing.assert_close(start["hidden.weight"], 0.5 * noise["hidden.weight"])
    torch.testing.assert_close(start["hidden.bias"], 0.3 * noise["hidden.bias"])
    assert start["norm.weight"].tolist() == [1.0] * 4


@pytest.mark.parametrize("granularity", ["global", "tensor", "element"])
def test_a_scaled_start_learns_the_deviation_of_what_is_random(granularity):
    policy = make_policy(PolicySettings(lr=fixed(0.1), init=InitSettings("scaled", granularity)))
    table = policy.log_strengths["init_std"]
    assert set(table) == ({"all"} if granularity == "global" else set(KEYS[:2]))
    noise = tree(0)
    start = policy.start(noise)
    for name, key in zip(NAMES[:2], KEYS[:2], strict=True):
        ratio = table["all" if granularity == "global" else key].exp()
        torch.testing.assert_close(start[name], INIT[name].std * ratio * noise[name])
    assert start["norm.weight"].tolist() == [1.0] * 4


def test_a_learned_start_begins_as_torch_draws():
    shapes, init = {"w": torch.Size([200, 200])}, {"w": INIT["hidden.weight"]}
    settings = PolicySettings(init=InitSettings("learned"))
    first, again, other = (
        Policy(settings, shapes, init, 1, torch.Generator().manual_seed(seed)).init["w"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx(0.5, rel=0.02)


def test_the_pull_is_towards_the_start_of_the_same_task():
    policy = make_policy(PolicySettings(lr=fixed(0.1), pull=fixed(0.5), schedule="step"))
    for seed in (1, 2):
        start, rule, _ = policy(tree(seed))
        zero = {name: torch.zeros_like(p) for name, p in start.items()}
        still, _ = rule.update(start, zero, rule.init(start), 0)
        moved = {name: p + 1 for name, p in start.items()}
        back, _ = rule.update(moved, zero, rule.init(start), 0)
        factor = policy.log_schedule["all"].exp()[0]
        for name in NAMES:
            torch.testing.assert_close(still[name], start[name], rtol=0, atol=0)
            torch.testing.assert_close(moved[name] - back[name], (0.1 * factor * 0.5).expand(SHAPES[name]))


def test_a_schedule_holds_its_last_factor_beyond_the_horizon():
    policy = make_policy(PolicySettings(lr=fixed(0.1), schedule="step"))
    start, rule, _ = policy(tree(0))
    at = [rule.update(start, tree(1), {}, step)[0]["hidden.bias"] for step in (HORIZON - 2, HORIZON - 1, HORIZON, 1000)]
    assert torch.equal(at[1], at[2])
    assert torch.equal(at[1], at[3])
    assert not torch.equal(at[0], at[1])


def test_the_policy_is_a_pure_function_of_its_parameters_and_the_noise():
    policy = make_policy(PolicySettings(lr=learned(), l2=learned(), init=InitSettings("scaled")))
    noise = tree(0)
    kept = {name: epsilon.clone() for name, epsilon in noise.items()}
    moved = {name: p.detach() + 1 for name, p in policy.named_parameters()}
    start, rule, _ = torch.func.functional_call(policy, moved, (noise,))
    torch.testing.assert_close(start["hidden.weight"], torch.e * policy.start(noise)["hidden.weight"])
    # The rule goes on using the parameters of its call, after the call.
    zero = {name: torch.zeros_like(p) for name, p in start.items()}
    end, _ = rule.update(start, zero, {}, 0)
    lr, l2 = (policy.log_strengths[q]["hidden/bias"].exp() * torch.e for q in ("lr", "l2"))
    torch.testing.assert_close(end["hidden.bias"], start["hidden.bias"] * (1 - lr * l2))
    for name in NAMES:
        assert torch.equal(noise[name], kept[name])


@pytest.mark.parametrize(("knots", "horizon"), [(2, 5), (4, 10), (3, 3), (5, 2), (4, 1)])
def test_between_knots_the_logarithm_of_a_schedule_is_linear(knots, horizon):
    settings = PolicySettings(schedule="step", schedule_knots=knots)
    policy = make_policy(settings, horizon)
    (values,) = policy.log_schedule.values()
    assert values.shape == (knots,)
    factors = policy.schedule()["norm.weight"].log().detach().numpy()
    at = np.linspace(0, knots - 1, horizon)
    np.testing.assert_allclose(factors, np.interp(at, np.arange(knots), values.detach().numpy()), atol=1e-6)


def test_every_knot_is_learned():
    policy = make_policy(PolicySettings(schedule="step_tensor", schedule_knots=3), 7)
    sum(factors.sum() for factors in policy.schedule().values()).backward()
    assert all((knots.grad != 0).all() for knots in policy.log_schedule.values())


@pytest.mark.parametrize("knots", [1, 0, -3, 2.5, True, "4", 10**6])
def test_a_number_of_knots_that_makes_no_line_is_refused(knots):
    with pytest.raises(ConfigError, match=r"policy\.schedule_knots is .*; it must be null or from 2 to"):
        PolicySettings(schedule="step", schedule_knots=knots)
