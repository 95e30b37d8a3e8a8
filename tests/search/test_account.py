import numpy as np
import pytest
from search_makers import HORIZON, policy_of, search_of

from metaopt.errors import ConfigError, DataError
from metaopt.evaluation.statistics import holm, mean_interval, paired, paired_p
from metaopt.search.account import account, trials_to_match
from metaopt.search.break_even import break_even
from metaopt.search.records import Cost

COST = Cost(inner_steps=12_000, seconds=60.0)


def only(policy, search, cost=COST, **settings):
    return account(policy, [search], cost, **settings).methods[search.name]


@pytest.mark.parametrize(
    ("curve", "trials"),
    [
        ([0.9, 0.7, 0.6], 0),
        ([0.4, 0.4, 0.4], 1),
        ([0.9, 0.5, 0.4], 2),
        ([0.9, 0.8, 0.5], 3),
        ([0.9, 0.4, 0.7], 2),
        ([0.9, 0.5, 0.9, 0.4], 2),
    ],
    ids=["never", "at once", "a tie", "at the last", "lost again", "lost and regained"],
)
def test_the_first_match_counts(curve, trials):
    assert trials_to_match(np.array([curve]), np.array([0.5])).tolist() == [trials]


def test_every_unit_and_the_mean_match_by_themselves():
    found = only(policy_of([0.5, 0.5, 0.2]), search_of([[0.5, 0.1, 0.1], [0.9, 0.9, 0.5], [0.9, 0.9, 0.6]]))
    assert found.match.tolist() == [1, 3, 0]
    assert found.match_on_mean == 3  # means .77, .63, .40 against .40
    assert only(policy_of([0.1, 0.1]), search_of([[0.2, 0.2], [0.3, 0.0]])).match_on_mean == 2
    assert only(policy_of([0.1, 0.1]), search_of([[0.2, 0.2], [0.3, 0.1]])).match_on_mean is None
    assert only(policy_of([0.1, 0.5]), search_of([[0.5, 0.2], [0.1, 0.1]])).match_on_mean == 1


def test_curves_have_an_interval_for_every_number_of_trials():
    loss = np.random.default_rng(0).uniform(size=(6, 4))
    found = account(policy_of([0.5] * 6, accuracy=[0.8] * 6), [search_of(loss, accuracy=1 - loss)], COST)
    search = found.methods["random"]
    assert search.loss == [mean_interval(loss[:, trial]) for trial in range(4)]
    assert search.accuracy is not None
    assert search.accuracy[3] == mean_interval(1 - loss[:, 3])
    assert search.against == paired(loss[:, 3], np.full(6, 0.5))
    assert (found.policy.mean, found.n_units, found.policy_accuracy) == (0.5, 6, mean_interval(np.full(6, 0.8)))
    assert (search.trials, search.inner_steps, search.seconds) == (4, 4 * HORIZON, pytest.approx(2 / 6))
    assert only(policy_of([0.5] * 6), search_of(loss)).accuracy is None


def test_holm_counts_searches_and_baselines_alike():
    random = np.random.default_rng(0)
    policy = random.normal(size=20)
    rivals = {name: policy + shift + random.normal(0, 0.5, size=20) for name, shift in (("a", 0.3), ("b", 0.2))}
    sgd = policy + 0.25 + random.normal(0, 0.5, size=20)
    searches = [search_of(loss, name) for name, loss in rivals.items()]
    found = account(policy_of(policy), searches, COST, others=[policy_of(sgd, "sgd")])
    p = [paired_p(loss, policy) for loss in (rivals["a"], rivals["b"], sgd)]
    tests = [*((found.methods[name].p, found.methods[name].p_holm) for name in "ab"), tuple(found.others["sgd"])]
    assert tests == list(zip(p, holm(p), strict=True))
    alone = account(policy_of(policy), searches, COST)
    assert alone.methods["a"].p_holm < found.methods["a"].p_holm


# Meta-training spent 12,000 inner steps in 60 s. A task's trial is 10 steps, in 0.5 s; the policy's training too.
@pytest.mark.parametrize(
    ("search", "tasks"),
    [
        ([[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]], 800.0),  # 2.5 trials are 25 steps: 15 more than the policy's 10
        ([[0.9, 0.9, 0.9], [0.9, 0.1, 0.1]], 800.0),  # what never matches spends all 3 of its trials
        ([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9]], 600.0),
        ([[0.5, 0.9, 0.9], [0.5, 0.5, 0.5]], None),  # always matched by the first trial, which costs the same
        ([[0.1, 0.1, 0.1], [0.8, 0.8, 0.4]], None),  # one trial is better on average
    ],
)
def test_break_even_divides_what_meta_training_spent_by_what_a_task_saves(search, tasks):
    found = only(policy_of([0.5, 0.5]), search_of(search, seconds=3.0))
    assert found.break_even == (tasks if tasks is None else pytest.approx(tasks))
    seconds = None if tasks is None else pytest.approx(tasks * HORIZON / 12_000 * 60 / 0.5)
    assert found.break_even_seconds == seconds


def test_folds_of_a_trial_are_charged():
    never = [[0.9, 0.9], [0.9, 0.9]]
    assert only(policy_of([0.5, 0.5]), search_of(never, folds=5)).break_even == pytest.approx(12_000 / (2 * 50 - 10))


def test_without_meta_trainings_seconds_there_is_no_break_even_in_seconds():
    found = only(policy_of([0.5, 0.5]), search_of([[0.9, 0.4], [0.9, 0.4]]), Cost(12_000))
    assert (found.break_even, found.break_even_seconds) == (pytest.approx(1200), None)
    match = np.array([2, 2])
    assert break_even(search_of([[0.9, 0.4]] * 2, seconds=0.0), policy_of([0.5] * 2), COST, match).seconds is None


def test_units_are_members():
    policy = policy_of([1.0, 0.0, 3.0, 0.0, 5.0])
    search = search_of([[9.0, 0.0], [0.0, 0.0], [0.0, 0.0], [9.0, 4.0], [9.0, 5.0]])
    members = ("a", "b", "a", "b", "c")
    found = account(policy, [search], COST, others=[policy_of([2.0] * 5, "sgd")], members=members, unit="table")
    tables, after = np.array([2.0, 0.0, 5.0]), np.array([[4.5, 0.0], [4.5, 2.0], [9.0, 5.0]])
    assert (found.unit, found.n_units, found.policy) == ("table", 3, mean_interval(tables))
    method = found.methods["random"]
    assert method.match.tolist() == [2, 0, 2]
    assert method.loss == [mean_interval(after[:, 0]), mean_interval(after[:, 1])]
    assert method.against == paired(after[:, 1], tables)
    assert method.p == paired_p(after[:, 1], tables)
    assert found.others["sgd"].p == paired_p(np.full(3, 2.0), tables)
    assert (method.inner_steps, method.seconds) == (2 * HORIZON, pytest.approx(2 / 5)), "of a task, not of a table"
    assert method.break_even == pytest.approx(12_000 / (2 * HORIZON - HORIZON))


def test_what_cannot_be_compared_is_refused():
    policy, search = policy_of([0.5, 0.5]), search_of([[0.5], [0.5]])
    with pytest.raises(ConfigError, match=r"every method once.*remove the repeated"):
        account(policy, [search, search], COST)
    with pytest.raises(ConfigError, match="random"):
        account(policy, [search], COST, others=[policy_of([0.5, 0.5], "random")])
    with pytest.raises(DataError, match=r"expected random on the policy's 2 tasks, got 3"):
        account(policy, [search_of([[0.5]] * 3)], COST)
    with pytest.raises(DataError, match=r"member for each of 2 tasks, got 3"):
        account(policy, [search], COST, members=("a", "b", "c"))
    with pytest.raises(DataError, match="finite test losses of random"):
        account(policy, [search_of([[0.5, np.nan], [0.5, 0.5]])], COST)


@pytest.mark.parametrize("n_tasks", [20, 100])
def test_intervals_cover_the_true_difference_in_95_of_100_comparisons(n_tasks):
    random = np.random.default_rng(n_tasks)

    def covers():
        difficulty = random.normal(1.0, 1.0, size=n_tasks)  # shared by both, and so no part of their difference
        noise = random.normal(0.0, 0.2, size=(2, n_tasks))
        found = only(policy_of(difficulty + noise[0]), search_of(difficulty + 0.057 + noise[1]))
        low, high = found.against.difference[1:]
        return low <= 0.057 <= high, high - low

    covered, widths = np.array([covers() for _ in range(2000)]).T
    assert 0.935 < covered.mean() < 0.965  # three standard errors of 2000 comparisons
    assert widths.mean() == pytest.approx(4 * 0.2 * 2**0.5 / n_tasks**0.5, rel=0.1), "as wide as pairing leaves it"


@pytest.mark.parametrize(("n_tasks", "coverage"), [(20, 0.864), (50, 0.898), (100, 0.918)])
def test_skewed_differences_cost_as_much_coverage_as_the_docstring_says(n_tasks, coverage):
    # A few tasks on which a search does very badly. The expected coverage was measured on 20,000 other comparisons.
    random = np.random.default_rng(n_tasks)
    covered = []
    for _ in range(2000):
        policy = random.normal(size=n_tasks)
        low, high = only(policy_of(policy), search_of(policy + random.lognormal(size=n_tasks))).against.difference[1:]
        covered.append(low <= np.exp(0.5) <= high)
    assert np.mean(covered) == pytest.approx(coverage, abs=0.023)  # three standard errors


def test_intervals_over_tables_cover_what_intervals_over_their_tasks_do_not():
    random = np.random.default_rng(0)
    tables, tasks = 15, 8
    members = [f"table{task // tasks}" for task in range(tables * tasks)]
    covered = {"table": [], "task": []}
    for _ in range(1000):
        difference = random.normal(0.1, 1.0, size=tables).repeat(tasks) + random.normal(0, 0.3, size=tables * tasks)
        policy = random.normal(size=tables * tasks)
        for unit, names in (("table", members), ("task", ())):
            found = only(policy_of(policy), search_of(policy + difference), members=names, unit=unit)
            covered[unit].append(found.against.difference.low <= 0.1 <= found.against.difference.high)
    assert 0.93 < np.mean(covered["table"]) < 0.97
    assert np.mean(covered["task"]) < 0.6
