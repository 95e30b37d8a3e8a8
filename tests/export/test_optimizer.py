"""An exported policy does all that torch's optimizers do."""

import io
import pickle
import warnings
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from export_policies import examples, module_with, noise_for, settings_of, write_policy
from torch import nn

from metaopt import load_policy
from metaopt.errors import ConfigError
from metaopt.policies.settings import MomentumSettings, PolicySettings, StrengthSettings

DATA = examples()
EVERY_KIND = [
    "per_parameter",
    "role_normalised",
    "adaptive",
    "learned_optimizer",
    "directions",
    "meta_curvature",
    "pull",
]
each_kind = pytest.mark.parametrize("name", EVERY_KIND)
PULL = PolicySettings(
    lr=StrengthSettings("learned", 0.1, "role"),
    pull=StrengthSettings("learned", 0.3, "element"),
    momentum=MomentumSettings("learned"),
)


def kind(name):
    return PULL if name == "pull" else settings_of(name)


@pytest.fixture
def policy_of(tmp_path):
    """Name of a policy -> the loaded policy, and a model where its training starts."""

    def load(name):
        policy = write_policy(tmp_path / f"{name}.safetensors", kind(name))
        return load_policy(tmp_path / f"{name}.safetensors"), module_with(policy.start(noise_for()))

    return load


@pytest.fixture
def made(policy_of):
    """(name of a policy, options) -> a model and an optimizer for it."""

    def make(name="role", **options):
        policy, module = policy_of(name)
        return module, policy.optimizer(module, **options)

    return make


def train(module, optimizer, steps, begin=0):
    for step in range(begin, begin + steps):
        rows = torch.arange(step, step + 16) % len(DATA.y)
        optimizer.zero_grad()
        loss = F.cross_entropy(module(DATA.x[rows].to(next(module.parameters()).dtype)), DATA.y[rows])
        loss.backward()
        optimizer.step(loss=loss)
    return [p.detach().clone() for p in module.parameters()]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@each_kind
def test_a_loop_that_is_interrupted_goes_on_identically(name, made):
    module, optimizer = made(name)
    expected = train(module, optimizer, 12)
    first, before = made(name)
    train(first, before, 5)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": before.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, after = made(name)
    train(second, after, 2, begin=7)  # what it has by now is overwritten, the anchor of the pull included
    for kept in after.state.values():
        if "anchor" in kept:
            kept["anchor"].add_(1)
    second.load_state_dict(saved["model"])
    after.load_state_dict(saved["optimizer"])
    assert after.steps_taken == 5
    assert_equal(train(second, after, 7, begin=5), expected)


@each_kind
def test_copies_and_pickles_go_on_identically(name, made):
    module, optimizer = made(name)
    train(module, optimizer, 3)
    twins = [deepcopy((module, optimizer)), pickle.loads(pickle.dumps((module, optimizer)))]
    expected = train(module, optimizer, 4, begin=3)
    for twin in twins:
        assert_equal(train(*twin, 4, begin=3), expected)


@each_kind
def test_float32_models_train(name, made):
    module, optimizer = made(name)
    module.float()
    before = [p.detach().clone() for p in module.parameters()]
    after = train(module, optimizer, 3)
    assert all(p.dtype == torch.float32 for p in after)
    assert any((p != q).any() for p, q in zip(before, after, strict=True))


def test_schedulers_multiply_the_learned_rates(made):
    halved, optimizer = made("global")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    assert scheduler.get_last_lr() == [1.0]
    start = [p.detach().clone() for p in halved.parameters()]
    train(halved, optimizer, 1)
    first = [p.detach().clone() for p in halved.parameters()]
    scheduler.step()
    train(halved, optimizer, 1)
    plain, other = made("global")
    train(plain, other, 1)
    assert_equal(first, [p.detach() for p in plain.parameters()])
    train(plain, other, 1)
    for now, then, full in zip(halved.parameters(), first, plain.parameters(), strict=True):
        torch.testing.assert_close(now - then, 0.5 * (full - then))
    assert any((a != b).any() for a, b in zip(start, first, strict=True))


def test_groups_have_multipliers_of_their_own(made, policy_of):
    expected = train(*made("role"), 1)
    policy, module = policy_of("role")
    start = [p.detach().clone() for p in module.parameters()]
    layers = dict(module.named_children())
    groups = [{"params": layers["output"].parameters(), "lr": 0.0}, {"params": layers["hidden0"].named_parameters()}]
    optimizer = policy.optimizer(module, groups=groups)
    found = train(module, optimizer, 1)
    assert_equal(found[:2], expected[:2])  # hidden0, at its learned rates
    assert_equal(found[2:], start[2:])  # hidden1 is in no group, output's rates are multiplied with 0
    assert optimizer.param_groups[0]["names"] == ["output.weight", "output.bias"]


@pytest.mark.parametrize("name", ["role", "adaptive", "role_normalised", "learned_optimizer"])
def test_parameters_can_join_later(name, policy_of):
    policy, module = policy_of(name)
    layers = dict(module.named_children())
    first, rest = layers["output"], [*layers["hidden0"].parameters(), *layers["hidden1"].parameters()]
    start = [p.detach().clone() for p in rest]
    optimizer = policy.optimizer(module, groups=[{"params": first.parameters()}])
    train(module, optimizer, 3)
    assert_equal([p.detach() for p in rest], start)
    memory = {key: value.clone() for key, value in optimizer.state[first.weight].items()}
    optimizer.add_param_group({"params": rest})
    assert all((optimizer.state[first.weight][key] == value).all() for key, value in memory.items())
    train(module, optimizer, 3, begin=3)
    assert all((p != q).any() for p, q in zip(rest, start, strict=True))
    assert optimizer.steps_taken == 6


@pytest.mark.parametrize("name", ["role", "adaptive"])
def test_what_has_no_gradient_stays_as_it_is(name, made):
    module, optimizer = made(name)
    layer = dict(module.named_children())["hidden1"]
    layer.requires_grad_(False)  # after the optimizer was made
    start = layer.weight.detach().clone()
    train(module, optimizer, 3)
    assert_equal([layer.weight.detach()], [start])
    layer.requires_grad_(True)
    train(module, optimizer, 1)
    assert (layer.weight != start).any()
    optimizer.zero_grad()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer.step()
    assert_equal([p.detach() for p in module.parameters()], before)
    assert optimizer.steps_taken == 4


def test_gradients_can_be_accumulated_and_clipped(made):
    whole, one = made("role_normalised")
    parts, other = made("role_normalised")
    F.cross_entropy(whole(DATA.x), DATA.y).backward()
    for rows in torch.arange(len(DATA.y)).split(10):
        (F.cross_entropy(parts(DATA.x[rows]), DATA.y[rows]) / 4).backward()
    norms = [nn.utils.clip_grad_norm_(module.parameters(), 0.01) for module in (whole, parts)]
    torch.testing.assert_close(*norms)
    one.step()
    other.step()
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", ["role", "adaptive"])
def test_gradients_can_be_scaled(name, made):
    plain, one = made(name)
    scaled, other = made(name)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for _ in range(3):
        one.zero_grad()
        loss = F.cross_entropy(plain(DATA.x), DATA.y)
        loss.backward()
        one.step(loss=loss)
        other.zero_grad()
        loss = F.cross_entropy(scaled(DATA.x), DATA.y)
        scaler.scale(loss).backward()
        scaler.step(other, loss=loss)
        scaler.update()
    for p, q in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    scaled.zero_grad()
    (scaler.scale(F.cross_entropy(scaled(DATA.x), DATA.y)) * torch.inf).backward()
    before = [p.detach().clone() for p in scaled.parameters()]
    scaler.step(other, loss=loss)
    assert_equal([p.detach() for p in scaled.parameters()], before)
    assert other.steps_taken == 3


@pytest.mark.parametrize("name", ["per_parameter", "adaptive"])
def test_compiled_models_are_known_by_the_same_names(name, policy_of):
    policy, module = policy_of(name)
    twin = deepcopy(module)
    compiled = torch.compile(twin, backend="eager")
    twin[2].compile(backend="eager")
    assert_equal(train(compiled, policy.optimizer(compiled), 3), train(module, policy.optimizer(module), 3))


def test_a_part_that_is_compiled_has_its_plain_name(policy_of):
    policy, module = policy_of("per_parameter")
    module.hidden1 = torch.compile(module.hidden1, backend="eager")
    optimizer = policy.optimizer(module)
    assert "hidden1.weight" in optimizer.param_groups[0]["names"]


def test_beyond_the_horizon_there_is_one_warning_and_the_rule_that_was_chosen(made):
    module, optimizer = made("role", steps=50)
    train(module, optimizer, 50)
    with pytest.warns(UserWarning, match=r"beyond 50 steps.*schedule stays where it is.*steps=\.\.\."):
        train(module, optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(module, optimizer, 3)
    module, optimizer = made("role", beyond="decay")
    train(module, optimizer, 50)
    with pytest.warns(UserWarning, match="decays as 1/step"):
        train(module, optimizer, 1)
    module, optimizer = made("adaptive", steps=4)
    train(module, optimizer, 4)
    with pytest.warns(UserWarning, match="beyond 4 steps.*position in the training"):
        train(module, optimizer, 1)


def test_an_adaptive_policy_asks_for_the_loss(made):
    module, optimizer = made("adaptive")
    F.cross_entropy(module(DATA.x), DATA.y).backward()
    with pytest.raises(ConfigError, match=r"reads the loss of each step.*optimizer\.step\(loss=loss\)"):
        optimizer.step()


def test_bad_input_is_named(made, policy_of):
    policy, module = policy_of("role")
    with pytest.raises(ConfigError, match=r"shape \(2, 2\), which is no parameter of the model"):
        policy.optimizer(module, groups=[{"params": [nn.Parameter(torch.ones(2, 2))]}])
    with pytest.raises(ConfigError, match="beyond is 'forget'"):
        policy.optimizer(module, beyond="forget")
    with pytest.raises(ConfigError, match="steps is 0"):
        policy.optimizer(module, steps=0)
    other = policy.optimizer(module, groups=[{"params": module.output.parameters()}])
    with pytest.raises(ConfigError, match=r"the state is of the parameters.*output\.bias"):
        made("role")[1].load_state_dict(other.state_dict())


def test_torchs_own_optimizer_takes_the_same_groups(policy_of):
    policy, module = policy_of("torch_optimizer")
    whole = policy.optimizer(module)
    groups = [{"params": module.output.named_parameters(), "lr": 0.5}, {"params": module.hidden0.weight}]
    some = policy.optimizer(module, groups=groups)
    rates = {id(group["params"][0]): group["lr"] for group in whole.param_groups}
    found = [(group["params"][0], group["lr"]) for group in some.param_groups]
    assert [id(p) for p, _ in found] == [id(p) for p in (*module.output.parameters(), module.hidden0.weight)]
    assert [lr for _, lr in found] == pytest.approx(
        [factor * rates[id(p)] for (p, _), factor in zip(found, (0.5, 0.5, 1), strict=True)]
    )
    with pytest.raises(ConfigError, match=r"shape \(2,\), which is no parameter of the model"):
        policy.optimizer(module, groups=[{"params": [nn.Parameter(torch.ones(2))]}])


def test_sparse_gradients_are_refused(tmp_path):
    bag = nn.Sequential(nn.EmbeddingBag(5, 4, sparse=True), nn.Linear(4, 3))
    write_policy(tmp_path / "policy.safetensors", settings_of("role_normalised"))
    optimizer = load_policy(tmp_path).optimizer(bag)
    F.cross_entropy(bag(torch.tensor([[0, 1]])), torch.tensor([1])).backward()
    with pytest.raises(ConfigError, match="sparse=False"):
        optimizer.step()


def test_what_an_adaptive_policy_multiplies_with_can_be_looked_at(made, policy_of):
    module, optimizer = made("adaptive")
    assert optimizer.multipliers() == {}
    train(module, optimizer, 2)
    found = optimizer.multipliers()
    assert list(found) == ["lr", "l2"]
    assert list(found["lr"]) == [name for name, _ in module.named_parameters()]
    assert len({round(value, 6) for value in found["lr"].values()}) > 1
    expected = optimizer.state[module.hidden0.weight]["shared/multipliers/lr"]
    assert list(found["lr"].values()) == pytest.approx(expected.tolist())
    module, optimizer = made("role")
    train(module, optimizer, 1)
    assert optimizer.multipliers() == {}
