"""An exported policy takes the steps of the inner loop."""

import pytest
import torch
import torch.nn.functional as F
from export_policies import MODEL, POLICIES, STEPS, examples, module_with, noise_for, settings_of, write_policy

from metaopt import load_policy
from metaopt.inner.draws import draw
from metaopt.inner.unroll import minibatch, step_loss, unroll
from metaopt.models.objective import objective
from metaopt.types import Kind

LOSS = objective(MODEL, Kind.classification).loss
SUPPORT = examples()


def draws_for(policy, horizon):
    settings = policy.settings
    found = draw({}, 1, horizon, 16, 40, torch.Generator().manual_seed(4), settings.draws_noise(), policy.progressive)
    bank = found.loss.bank
    return found.order[0], found.loss._replace(bank=None if bank is None else bank[0].double())


def inner_loop(policy, steps, order, noise):
    with torch.no_grad():
        return unroll(policy(noise_for()), LOSS, SUPPORT, order, steps, noise)[0]


@pytest.mark.filterwarnings("ignore:policy 'regularised' was learned together")
@pytest.mark.parametrize("name", POLICIES)
def test_parameters_are_those_of_the_inner_loop_after_fifty_steps(name, tmp_path):
    policy = write_policy(tmp_path / "policy.safetensors", settings_of(name))
    order, noise = draws_for(policy, STEPS)
    expected = inner_loop(policy, STEPS, order, noise)
    with torch.no_grad():
        start = policy(noise_for())
    module = module_with(start.params)
    optimizer = load_policy(tmp_path).optimizer(module)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = step_loss(LOSS, start.inner, noise, step)(
            dict(module.named_parameters()), minibatch(SUPPORT, order, step)
        )
        loss.backward()
        optimizer.step(loss=loss) if name.startswith("adaptive") else optimizer.step()
    moved = max((p - start.params[n]).abs().max() for n, p in module.named_parameters())
    assert moved > 1e-2
    for n, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=0, atol=1e-10, msg=lambda text, n=n: f"{n}: {text}")


@pytest.mark.parametrize("name", ["per_parameter", "learned_optimizer", "adaptive"])
def test_gradients_belong_to_the_loop_which_may_write_over_them(name, tmp_path):
    policy = write_policy(tmp_path / "policy.safetensors", settings_of(name))
    order, noise = draws_for(policy, STEPS)
    expected = inner_loop(policy, STEPS, order, noise)
    module = module_with(policy.start(noise_for()))
    optimizer = load_policy(tmp_path / "policy.safetensors").optimizer(module)
    for rows in order:
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(module(SUPPORT.x[rows]), SUPPORT.y[rows])
        loss.backward()
        optimizer.step(loss=loss)
    for n, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["per_parameter", "role_normalised", "adaptive"])
def test_an_ordinary_loop_with_closures_takes_the_same_steps(name, tmp_path):
    policy = write_policy(tmp_path / "policy.safetensors", settings_of(name))
    order, noise = draws_for(policy, STEPS)
    expected = inner_loop(policy, STEPS, order, noise)
    loaded = load_policy(tmp_path / "policy.safetensors")
    module = module_with(policy.start(noise_for()))
    optimizer = loaded.optimizer(module)
    for rows in order:

        def closure(rows=rows):
            optimizer.zero_grad()
            loss = F.cross_entropy(module(SUPPORT.x[rows]), SUPPORT.y[rows])
            loss.backward()
            return loss

        assert optimizer.step(closure).item() > 0
    for n, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:training goes beyond")
@pytest.mark.parametrize("name", ["per_parameter", "role", "adaptive", "learned_optimizer"])
def test_beyond_the_horizon_it_does_as_the_inner_loop_does(name, tmp_path):
    policy = write_policy(tmp_path / "policy.safetensors", settings_of(name), horizon=5)
    order, noise = draws_for(policy, 12)
    expected = inner_loop(policy, 12, order, noise)
    module = module_with(policy.start(noise_for()))
    optimizer = load_policy(tmp_path).optimizer(module)
    for rows in order:
        optimizer.zero_grad()
        loss = F.cross_entropy(module(SUPPORT.x[rows]), SUPPORT.y[rows])
        loss.backward()
        optimizer.step(loss=loss)
    for n, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=0, atol=1e-10)
