import numpy as np
import pytest
import torch
from search_helpers import EVERYTHING, GLOBAL, HORIZON, REGRESSION, classification, make_draws, make_setting, regression

from metaopt.inner.adapt import adapt
from metaopt.policies.baselines import RuleSettings, fixed_learner
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings
from metaopt.search.safety import better_of_two
from metaopt.types import Batch

RIVAL = RuleSettings("adam", 0.02)


def both(setting, tasks, draws, on, rival=RIVAL):
    """Losses and accuracies of policy and rival at the end."""
    start = Policy(PolicySettings(), setting.model.shapes, setting.model.init, 1).start
    learners = (setting.policy, fixed_learner(start, rival, HORIZON))
    found = [adapt(each, setting.objective(setting.model), tasks, draws, HORIZON, on=on) for each in learners]
    return [(each.loss[:, -1].numpy(), each.accuracy[:, -1].numpy()) for each in found]


@pytest.mark.parametrize(("settings", "lr"), [(GLOBAL, 0.02), (EVERYTHING, 0.05)], ids=["global", "everything"])
def test_the_better_one_is_chosen_by_validation_and_never_by_test(settings, lr):
    conventional = RuleSettings("adam", lr)
    setting = make_setting(settings)
    tasks = classification(12)
    # Test sets with other labels, so that what validates well tests badly.
    tasks = tasks._replace(test=Batch(tasks.test.x, (tasks.test.y + 1) % 3))
    draws = make_draws(setting, tasks)
    (policy, _), (rival, _) = both(setting, tasks, draws, "query", conventional)
    (policy_test, policy_right), (rival_test, rival_right) = both(setting, tasks, draws, "test", conventional)
    worse = policy > rival
    assert 0 < worse.sum() < 12, "both win somewhere"
    assert ((policy_test > rival_test) != worse).any(), "test sets disagree"
    found = better_of_two(setting, conventional, tasks, draws)
    np.testing.assert_array_equal(found.worse, worse)
    np.testing.assert_allclose(found.loss, np.where(worse, rival_test, policy_test), rtol=1e-5)
    np.testing.assert_allclose(found.accuracy, np.where(worse, rival_right, policy_right), rtol=1e-5)
    assert found.inner_steps == 2 * 12 * HORIZON
    assert not found.diverged.any()


def test_a_regression_has_no_accuracy():
    setting = make_setting(spec=REGRESSION)
    tasks = regression(4)
    found = better_of_two(setting, RIVAL, tasks, make_draws(setting, tasks))
    assert found.accuracy is None
    assert np.isfinite(found.loss).all()


def test_a_policy_that_diverges_is_worse_and_its_rival_counts():
    setting = make_setting()
    with torch.no_grad():
        setting.policy.log_strengths["lr"]["all"].fill_(20.0)
    tasks = classification()
    draws = make_draws(setting, tasks)
    found = better_of_two(setting, RIVAL, tasks, draws)
    assert found.worse.all()
    assert not found.diverged.any()
    np.testing.assert_allclose(found.loss, both(setting, tasks, draws, "test")[1][0], rtol=1e-5)


def test_where_both_diverge_it_says_so():
    setting = make_setting()
    with torch.no_grad():
        setting.policy.log_strengths["lr"]["all"].fill_(20.0)
    tasks = classification()
    found = better_of_two(setting, RuleSettings("sgd", 1e8), tasks, make_draws(setting, tasks))
    assert found.diverged.all()
    assert not found.worse.any()
    assert np.isfinite(found.loss).all()
