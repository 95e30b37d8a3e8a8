import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from policy_helpers import SHAPES, trained, trained_by_torch, tree

from metaopt.policies.baselines import DECAYS, RuleSettings, decay_factors, fixed_learner, rule_of_numbers
from metaopt.trees import stacked

SETTINGS = [
    (RuleSettings("sgd", 0.1), torch.optim.SGD, {"lr": 0.1}),
    (RuleSettings("sgd", 0.1, 0.01, 0.9), torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9}),
    (RuleSettings("adam", 0.02, 0.1), torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("settings", "optimizer", "options"), SETTINGS, ids=[s.describe() for s, *_ in SETTINGS])
def test_settings_mean_what_they_mean_in_torch(settings, optimizer, options):
    found = trained(settings.rule(tuple(SHAPES)), tree(0), 10)[-1]
    expected = trained_by_torch(optimizer, tree(0), 10, **options)[-1]
    for name in SHAPES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=1e-7)


def test_a_description_names_what_is_on_and_nothing_else():
    assert RuleSettings("sgd", 0.1).describe() == "SGD, lr 0.1"
    assert RuleSettings("sgd", 0.01, 1e-4, 0.9).describe() == "SGD, lr 0.01, L2 0.0001, momentum 0.9"
    assert RuleSettings("adam", 1e-3, momentum=0.9).describe() == "Adam, lr 0.001"


def test_a_learner_starts_where_it_is_told():
    learner = fixed_learner(lambda noise: {n: 2 * e for n, e in noise.items()}, RuleSettings("sgd", 1.0))
    start, rule, inner = learner(tree(0))
    assert inner is None
    assert rule.init(start) == {}
    for name, epsilon in tree(0).items():
        assert torch.equal(start[name], 2 * epsilon)


SEARCHED = [
    (RuleSettings("nesterov", 0.1, 0.01, 0.9), torch.optim.SGD, {"weight_decay": 0.01, "momentum": 0.9}),
    (RuleSettings("nesterov", 0.1, 0.01), torch.optim.SGD, {"weight_decay": 0.01}),
    (RuleSettings("adamw", 0.02, 0.3), torch.optim.AdamW, {"weight_decay": 0.3}),
    (RuleSettings("sgd", 0.1, 0.01, 0.9), torch.optim.SGD, {"weight_decay": 0.01, "momentum": 0.9}),
    (RuleSettings("adam", 0.02, 0.1), torch.optim.Adam, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize("schedule", DECAYS)
@pytest.mark.parametrize(("settings", "optimizer", "options"), SEARCHED, ids=[s.describe() for s, *_ in SEARCHED])
def test_schedules_and_variants_mean_what_they_mean_in_torch(settings, optimizer, options, schedule):
    horizon = 8
    if settings.optimizer == "nesterov" and settings.momentum:
        options = options | {"nesterov": True}
    shares = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t,
        "cosine": lambda t: 0.5 + 0.5 * math.cos(math.pi * t),
    }
    leaves = {name: p.clone().requires_grad_() for name, p in tree(0).items()}
    plain = optimizer(leaves.values(), lr=settings.lr, **options)
    decay = torch.optim.lr_scheduler.LambdaLR(plain, lambda step: shares[schedule](step / horizon))
    for _ in range(horizon):
        for p in leaves.values():
            p.grad = p.detach().sin() + p.detach() / 2
        plain.step()
        decay.step()
    found = trained(replace(settings, schedule=schedule).rule(tuple(SHAPES), horizon), tree(0), horizon)[-1]
    # Adam's ε stands elsewhere, which is of the order of 1e-8 of a step.
    tolerance = 1e-7 if settings.adaptive else 1e-12
    for name in SHAPES:
        torch.testing.assert_close(found[name], leaves[name].detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kinds", [("sgd", "nesterov"), ("adam", "adamw")])
def test_settings_side_by_side_are_those_alone(kinds):
    horizon = 7
    settings = [
        RuleSettings(kinds[i % 2], 0.02 * (1 + i), l2, momentum, schedule)
        for i, (l2, momentum, schedule) in enumerate(product((0.0, 0.2), (0.0, 0.9), DECAYS))
    ]
    settings += [replace(each, optimizer=kinds[1 - kinds.index(each.optimizer)]) for each in settings]
    numbers = stacked([each.numbers(horizon) for each in settings])
    params = tree(0)

    def train(own):
        return trained(rule_of_numbers(kinds[0] == "adam", own, tuple(SHAPES)), params, horizon)[-1]

    together = torch.func.vmap(train)(numbers)
    for i, each in enumerate(settings):
        alone = trained(each.rule(tuple(SHAPES), horizon), params, horizon)[-1]
        for name in SHAPES:
            torch.testing.assert_close(
                together[name][i], alone[name], rtol=1e-12, atol=1e-12, msg=f"{name}: {each.describe()}"
            )


def test_a_schedule_starts_at_one_and_falls_but_not_to_zero():
    for schedule in ("linear", "cosine"):
        factors = decay_factors(schedule, 10)
        assert factors[0] == 1
        assert (factors.diff() < 0).all()
        assert 0 < factors[-1] < 0.2
    assert decay_factors("constant", 10).eq(1).all()
    assert decay_factors("linear", 4).tolist() == [1.0, 0.75, 0.5, 0.25]
