import pytest
import torch
from policy_helpers import SHAPES, trained, trained_by_torch, tree

from metaopt.policies.step import adam_step, regularised_step


def close(found, expected, rtol=1e-12, atol=1e-14):
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        for name in SHAPES:
            torch.testing.assert_close(one[name], other[name], rtol=rtol, atol=atol, msg=f"{name} at step {step}")


def everywhere(value):
    return dict.fromkeys(SHAPES, value)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_gradient_descent_is_torchs(l2, momentum):
    rule = regularised_step(
        lr=everywhere(0.1), l2=everywhere(l2) if l2 else None, momentum=momentum if momentum else None
    )
    expected = trained_by_torch(torch.optim.SGD, tree(0), 20, lr=0.1, weight_decay=l2, momentum=momentum)
    close(trained(rule, tree(0), 20), expected)


@pytest.mark.parametrize("l2", [0.0, 0.03])
def test_adam_is_torchs(l2):
    expected = trained_by_torch(torch.optim.Adam, tree(0), 20, lr=0.1, weight_decay=l2)
    # ε stands elsewhere, which is of the order of 1e-8 of a step.
    close(trained(adam_step(0.1, l2), tree(0), 20), expected, rtol=1e-7, atol=1e-7)


def test_adam_has_finite_derivatives_where_the_gradient_is_zero():
    rule = adam_step(0.1)

    def end(g):
        params = {"p": torch.zeros(2, dtype=torch.float64)}
        state = rule.init(params)
        for step in range(3):
            params, state = rule.update(params, {"p": g}, state, step)
        return params["p"]

    derivative = torch.func.jacrev(end)(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert derivative.isfinite().all()
    # At zero Adam is -lr g / eps for each of the steps.
    assert derivative[0, 0].item() == pytest.approx(-3 * 0.1 / 1e-8, rel=1e-6)


@pytest.mark.parametrize("kind", ["regularised", "adam"])
def test_an_update_changes_none_of_its_arguments(kind):
    rule = adam_step(0.1, 0.1) if kind == "adam" else _full_rule()
    params, grads = tree(0), tree(1)
    params, state = rule.update(params, grads, rule.init(params), 0)

    def flat(node):
        return [t for part in node.values() for t in (flat(part) if isinstance(part, dict) else [part])]

    kept = [t.clone() for t in (*flat(params), *flat(grads), *flat(state))]
    first = rule.update(params, grads, state, 1)
    again = rule.update(params, grads, state, 1)
    for old, now in zip(kept, (*flat(params), *flat(grads), *flat(state)), strict=True):
        assert torch.equal(old, now)
    for one, other in zip(first, again, strict=True):
        for t, same in zip(flat(one), flat(other), strict=True):
            assert torch.equal(t, same)


def _full_rule():
    factors = everywhere(torch.tensor([1.0, 0.5], dtype=torch.float64))
    return regularised_step(
        everywhere(0.1), everywhere(0.2), everywhere(0.3), anchor=tree(5), momentum=0.9, schedule=factors
    )


def number(_):
    return 0.3


def element(seed):
    return {name: values.abs() for name, values in tree(seed).items()}


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("l2", [None, number, element])
@pytest.mark.parametrize("lr", [number, element])
def test_steps_that_write_over_their_arguments_are_the_same_steps(lr, l2, momentum):
    def made(in_place):
        rates, decays = (everywhere(number(0)) if of is number else of and of(3) for of in (lr, l2))
        factors = everywhere([0.5, 0.2, 0.1])
        return regularised_step(rates, decays, momentum=momentum, schedule=factors, in_place=in_place)

    expected = trained(made(False), tree(0), 5)
    params, rule = tree(0), made(True)
    state, where = rule.init(params), {name: p.data_ptr() for name, p in params.items()}
    for step, at in enumerate(expected):
        gradients = {name: p.sin() + p / 2 for name, p in params.items()}
        params, state = rule.update(params, gradients, state, step)
        close([params], [at])
    assert {name: p.data_ptr() for name, p in params.items()} == where


def test_strengths_of_each_element_act_on_that_element():
    lr, l2, pull, anchor = ({n: t.abs() for n, t in tree(seed).items()} for seed in (1, 2, 3, 4))
    rule = regularised_step(lr, l2, pull, anchor)
    params, grads = tree(5), tree(6)
    found, state = rule.update(params, grads, rule.init(params), 0)
    assert state == {}
    for name, p in params.items():
        expected = p - lr[name] * (grads[name] + l2[name] * p + pull[name] * (p - anchor[name]))
        torch.testing.assert_close(found[name], expected, rtol=1e-14, atol=1e-14)


def test_a_schedule_multiplies_the_rate_and_holds_its_last_factor():
    factors = torch.tensor([2.0, 0.5, 0.25], dtype=torch.float64)
    schedule = {name: factors * (i + 1) for i, name in enumerate(SHAPES)}
    rule = regularised_step(everywhere(0.1), schedule=schedule)
    grads = tree(1)
    for step, factor in enumerate([2.0, 0.5, 0.25, 0.25, 0.25]):
        params = tree(0)
        found, _ = rule.update(params, grads, rule.init(params), step)
        for i, (name, p) in enumerate(params.items()):
            torch.testing.assert_close(found[name], p - 0.1 * factor * (i + 1) * grads[name], rtol=1e-14, atol=1e-14)


def test_the_pull_alone_brings_parameters_back():
    anchor = tree(1)
    rule = regularised_step(everywhere(0.5), pull=everywhere(1.0), anchor=anchor)
    end = trained(rule, tree(0), 60, gradient=torch.zeros_like)[-1]
    for name, p in end.items():
        torch.testing.assert_close(p, anchor[name], rtol=1e-12, atol=1e-12)
