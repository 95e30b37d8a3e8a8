import pytest
import torch
from policy_helpers import SHAPES, trained, trained_by_torch, tree

from metaopt.policies.baselines import RuleSettings, fixed_learner

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
    start, rule = fixed_learner(lambda noise: {n: 2 * e for n, e in noise.items()}, RuleSettings("sgd", 1.0))(tree(0))
    assert rule.init(start) == {}
    for name, epsilon in tree(0).items():
        assert torch.equal(start[name], 2 * epsilon)
