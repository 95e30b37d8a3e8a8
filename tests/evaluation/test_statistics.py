import numpy as np
import pytest
from scipy import stats

from metaopt.evaluation.statistics import holm, mean_interval, paired, paired_p


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


def test_the_p_value_is_the_paired_t_tests():
    random = np.random.default_rng(0)
    policy, method = random.normal(size=(2, 12))
    assert paired_p(method, policy) == pytest.approx(stats.ttest_rel(method, policy).pvalue)
    assert paired_p(policy, method) == pytest.approx(paired_p(method, policy))


@pytest.mark.parametrize("shift", np.linspace(0.0, 1.0, 9))
def test_the_p_value_is_below_5_per_cent_exactly_where_the_interval_excludes_zero(shift):
    policy, noise = np.random.default_rng(1).normal(size=(2, 15))
    method = policy + shift + noise - noise.mean()
    difference = paired(method, policy).difference
    assert (paired_p(method, policy) < 0.05) == (not difference.low <= 0 <= difference.high)


def test_differences_without_spread_have_a_p_value():
    losses = np.array([0.25, 0.5, 0.75])
    assert paired_p(losses, losses) == 1.0
    assert paired_p(losses + 0.25, losses) == paired_p(losses - 0.25, losses) == 0.0
    assert paired_p(losses + 0.1, losses) < 1e-20  # the same difference but for rounding
    assert paired_p(losses[:1] + 0.25, losses[:1]) == 1.0


def test_holm_multiplies_step_by_step_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # worked by hand
    assert holm([0.04, 0.001]) == pytest.approx([0.04, 0.002])
    assert holm([0.6, 0.9, 0.5]) == [1.0, 1.0, 1.0]
    assert holm([0.03, 0.03]) == pytest.approx([0.06, 0.06])
    assert (holm([]), holm([0.2])) == ([], [0.2])


def test_holm_keeps_the_chance_of_one_false_rejection_among_seven_tests():
    random = np.random.default_rng(0)
    p = random.uniform(size=(4000, 7))
    assert 0.28 < np.mean(p.min(axis=1) < 0.05) < 0.33  # without correction: 1 - 0.95 ** 7
    assert 0.039 < np.mean([min(holm(row)) < 0.05 for row in p]) < 0.061
    # One method is really different, and found whenever Bonferroni's correction finds it.
    p[:, 0] = random.uniform(0, 0.004, size=4000)
    corrected = np.array([holm(row) for row in p])
    assert np.mean(corrected[:, 0] < 0.05) == 1.0
    assert np.mean(corrected[:, 1:].min(axis=1) < 0.05) < 0.061
