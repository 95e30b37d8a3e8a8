import optuna
import pytest

from metaopt.policies.baselines import RuleSettings
from metaopt.search.tuned_space import DEFAULTS, LR_RANGE, choices, suggest


@pytest.mark.parametrize("settings", [*DEFAULTS, RuleSettings("sgd", 1.0, 1e-3, 0.9), RuleSettings("adam", 0.1, 1e-2)])
def test_settings_survive_the_way_through_optuna(settings):
    assert suggest(optuna.trial.FixedTrial(choices(settings))) == settings


def test_the_space_holds_both_optimizers_with_and_without_regularisation():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [suggest(study.ask()) for _ in range(200)]
    assert {point.optimizer for point in points} == {"sgd", "adam"}
    assert 0.05 < sum(point.l2 == 0 for point in points) / len(points) < 0.35
    for point in points:
        low, high = LR_RANGE[point.optimizer]
        assert low <= point.lr <= high
        assert point.momentum == 0 or point.optimizer == "sgd"
        assert point.l2 == 0 or 1e-6 <= point.l2 <= 1e-1
