import numpy as np
import pytest

from metaopt.evaluation.statistics import mean_interval, paired


def test_interval_is_students():
    mean, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2.0
    assert high - mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t quantile at 2 degrees of freedom
    assert mean - low == pytest.approx(high - mean)


def test_intervals_of_few_tasks_cover_the_truth_in_95_of_100_cases():
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(3000, 5))
    covered = [low <= 3.0 <= high for _, low, high in map(mean_interval, samples)]
    assert 0.938 < np.mean(covered) < 0.962  # a normal quantile in place of Student's covers 0.88


def test_one_value_has_an_interval_without_width():
    assert mean_interval(np.array([0.7])) == (0.7, 0.7, 0.7)


def test_difference_is_positive_and_win_rate_high_when_the_policy_is_better():
    policy = np.array([0.1, 0.2, 0.3, 0.9])
    method = np.array([0.4, 0.6, 0.8, 0.5])
    difference, win_rate = paired(method, policy)
    assert difference.mean == pytest.approx(0.2)
    assert win_rate == 0.75
    assert paired(policy, method).win_rate == 0.25


def test_ties_count_half():
    losses = np.array([0.1, 0.2, 0.3, 0.4])
    assert paired(losses, losses).win_rate == 0.5
    assert paired(losses + np.array([0.0, 0.0, 0.1, 0.1]), losses).win_rate == 0.75


def test_pairing_removes_what_tasks_differ_in():
    random = np.random.default_rng(0)
    difficulty = random.normal(0.0, 100.0, size=50)
    difference = paired(difficulty + 0.1, difficulty + random.normal(0.0, 0.01, size=50)).difference
    assert difference.low > 0.09
    assert difference.high < 0.11
