import pytest
import torch
from policy_helpers import SHAPES, trained, trained_by_torch, tree

from metaopt.policies.settings import OPTIMIZERS
from metaopt.policies.torch_optimizer import torch_optimizer_rule


def rates(value=0.05):
    return {name: torch.tensor(value * (i + 1), dtype=torch.float64) for i, name in enumerate(SHAPES)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:])
def test_it_trains_as_torch_does(optimizer):
    lr = 0.05
    rule = torch_optimizer_rule(optimizer, dict.fromkeys(SHAPES, torch.tensor(lr, dtype=torch.float64)))
    found = trained(rule, tree(0), 50)
    expected = trained_by_torch(getattr(torch.optim, optimizer), tree(0), 50, lr=lr)
    atol = 1e-7 if optimizer == "ASGD" else 1e-12  # torch keeps the rate of ASGD in float32
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        for name in SHAPES:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=atol, msg=f"{name} at step {step}")


def test_small_gradients_show_where_adam_adds_its_epsilon():
    rule = torch_optimizer_rule("Adam", rates())

    def gradient(p):
        return 1e-8 * p.sign()

    found = trained(rule, tree(0), 5, gradient)[-1]
    for name, lr in rates().items():
        expected = trained_by_torch(torch.optim.Adam, {name: tree(0)[name]}, 5, gradient, lr=lr.item())[-1]
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12)


def test_each_tensor_has_a_rate_of_its_own():
    rule = torch_optimizer_rule("Adam", rates())
    found = trained(rule, tree(0), 4)[-1]
    for name, lr in rates().items():
        alone = trained_by_torch(torch.optim.Adam, {name: tree(0)[name]}, 4, lr=lr.item())[-1]
        torch.testing.assert_close(found[name], alone[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["Adam", "Adagrad", "SGD"])
def test_a_step_that_is_taken_again_is_the_same_step(optimizer):
    # higher keeps the optimizer's memory in an object: a step must not change the one it was given.
    rule = torch_optimizer_rule(optimizer, rates())
    params, grads = tree(0), tree(1)
    params, state = rule.update(params, grads, rule.init(params), 0)
    kept = {name: p.clone() for name, p in params.items()}
    first, _ = rule.update(params, grads, state, 1)
    rule.update(first, tree(2), rule.update(params, grads, state, 1)[1], 2)
    again, _ = rule.update(params, grads, state, 1)
    for name in SHAPES:
        assert torch.equal(first[name], again[name]), name
        assert torch.equal(params[name], kept[name]), name
