from dataclasses import replace

import numpy as np
from search_makers import policy_of, search_of

from metaopt.evaluation.statistics import Interval, Paired
from metaopt.report.search_headline import search_headline, search_verdict
from metaopt.search.account import account
from metaopt.search.records import Cost

COST = Cost(12_000, 60.0)
POLICY = np.array([0.2, 0.3, 0.4, 0.5, 0.3])
NOISE = np.array([0.01, -0.01, 0.0, 0.01, -0.01])


def found(**losses):
    """The account of these searches, by name, each with the losses after its last trials."""
    return account(policy_of(POLICY), [search_of(loss, name) for name, loss in losses.items()], COST)


def test_each_search_is_said_to_be_what_it_is():
    shown = found(tpe=POLICY + 0.2 + NOISE, gp=POLICY - 0.1 + NOISE, grid=POLICY + NOISE[::-1])
    assert search_headline(shown) == (
        "On 5 tasks the policy's test loss without a trial is 0.340, lower than tpe (0.540) but higher than gp (0.240)"
        ", and not distinguishable from grid (0.340) after 1 trial per task (paired tests at 5 %, Holm's correction)."
    )


def test_the_number_of_trials_and_the_unit_are_said():
    search = search_of(np.tile(POLICY[:, None] + 0.2, 30), "tpe")
    single = account(policy_of(POLICY), [search], COST, members=tuple("abcde"), unit="table")
    sentence = search_headline(single)
    assert sentence.startswith(
        "On 5 tables the policy's test loss without a trial is 0.34, lower than tpe (0.54) after 30 tr"
    )
    two = account(policy_of(POLICY), [search, search_of(POLICY + 0.2, "gp")], COST)
    assert "tpe (0.54 after 30 trials) and gp (0.54 after 1 trial) (paired tests" in search_headline(two)


def test_neither_the_interval_nor_the_corrected_p_value_is_enough():
    method = found(tpe=POLICY + 0.2 + NOISE).methods["tpe"]
    assert search_verdict(method) == "lower"
    assert search_verdict(replace(method, p_holm=0.05)) == "undecided"
    assert search_verdict(replace(method, against=Paired(Interval(0.2, 0.0, 0.4), 0.5))) == "undecided"


def test_holm_takes_back_what_one_test_alone_would_claim():
    random = np.random.default_rng(3)
    policy = random.normal(size=30)
    losses = {f"s{i}": policy + 0.02 * i + random.normal(0, 0.5, size=30) for i in range(6)}
    noise = random.normal(size=30)
    losses["close"] = policy + (noise - noise.mean()) / noise.std(ddof=1) + 2.5 / 30**0.5  # t is 2.5
    searches = [search_of(loss, name) for name, loss in losses.items()]
    many = account(policy_of(policy), searches, COST)
    alone = account(policy_of(policy), searches[-1:], COST)
    assert alone.methods["close"].p < 0.05 < many.methods["close"].p_holm
    assert many.methods["close"].against.difference.low > 0
    assert "lower than close" in search_headline(alone)
    assert "lower" not in search_headline(many)


def test_one_task_decides_nothing_and_no_search_is_no_rival():
    single = account(policy_of([0.1]), [search_of([[9.0]])], COST)
    assert "one alone cannot decide" in search_headline(single)
    assert "lower" not in search_headline(single)
    assert search_headline(account(policy_of(POLICY), [], COST)).endswith("there is no search to compare it with.")


def test_a_policy_that_is_no_better_than_random_search_is_not_called_better():
    random = np.random.default_rng(0)
    claims = {0.0: [], -0.05: []}
    for shift, said in claims.items():
        for _ in range(1000):
            difficulty = random.normal(1.0, 1.0, size=50)
            policy, search = difficulty + random.normal(0.0, 0.2, size=(2, 50))
            sentence = search_headline(account(policy_of(policy), [search_of(search + shift)], COST))
            said.append(("lower than random" in sentence, "higher than random" in sentence))
    better, worse = np.mean(claims[0.0], axis=0)
    assert 0.01 < better < 0.04  # half of a two-sided test at 5 %
    assert 0.01 < worse < 0.04
    assert np.mean(claims[-0.05], axis=0)[0] < 0.005  # really a little worse


def test_seven_methods_give_no_more_false_claims_than_one():
    random = np.random.default_rng(1)
    names = ("random", "grid", "tpe", "gp", "cmaes", "genetic")
    corrected, uncorrected = [], []
    for _ in range(800):
        difficulty = random.normal(1.0, 1.0, size=30)
        policy, tuned, *losses = difficulty + random.normal(0.0, 0.2, size=(8, 30))
        searches = [search_of(loss, name) for name, loss in zip(names, losses, strict=True)]
        shown = account(policy_of(policy), searches, COST, others=[policy_of(tuned, "tuned")])
        sentence = search_headline(shown)
        corrected.append("lower than" in sentence or "higher than" in sentence)
        uncorrected.append(any(method.p < 0.05 for method in shown.methods.values()))
    assert np.mean(corrected) < 0.05 + 3 * (0.05 * 0.95 / 800) ** 0.5
    assert np.mean(uncorrected) > 0.12, "without correction one claim in eight accounts is false"


def test_a_difference_that_is_there_is_found():
    random = np.random.default_rng(2)
    said = []
    for _ in range(200):
        policy, *losses = random.normal(0.0, 0.1, size=(8, 100)) + random.normal(1.0, 1.0, size=100)
        searches = [search_of(loss + 0.057, f"s{i}") for i, loss in enumerate(losses)]
        said.append("not distinguishable" not in search_headline(account(policy_of(policy), searches, COST)))
    assert np.mean(said) > 0.85
