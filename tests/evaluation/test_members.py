import csv
from dataclasses import replace

import numpy as np
import pytest
from test_results import comparison, outcome

from metaopt.evaluation.members import by_member
from metaopt.evaluation.results import results_record, write_tasks_csv
from metaopt.evaluation.statistics import mean_interval
from metaopt.report.headline import headline


@pytest.fixture
def found():
    """Five tasks from three tables."""
    policy = outcome("policy", [1.0, 2.0, 3.0, 4.0, 6.0], [0.1, 0.2, 0.3, 0.4, 0.6])
    tuned = outcome("tuned", [2.0, 2.0, 5.0, 4.0, 8.0], [0.1, 0.1, 0.3, 0.2, 0.6], diverged=[1, 3])
    return replace(comparison(policy, tuned), members=("b", "a", "b", "a", "c"), unit="table")


def test_an_entry_is_the_mean_over_the_tasks_of_a_member(found):
    shown = by_member(found)
    policy = shown.methods["policy"]
    assert policy.loss.tolist() == [2.0, 3.0, 6.0]
    assert policy.accuracy.tolist() == pytest.approx([0.2, 0.3, 0.6])
    assert policy.curve.tolist() == [[3.0, 2.0], [4.0, 3.0], [7.0, 6.0]]
    assert shown.methods["tuned"].diverged.tolist() == [False, True, False]
    assert (shown.n_tasks, shown.members) == (3, ())
    assert by_member(shown) is shown


def test_intervals_of_the_record_are_over_members(found):
    record = results_record(found, {})
    assert (record["n_tasks"], record["unit"], record["n_units"]) == (5, "table", 3)
    interval = mean_interval(np.array([2.0, 3.0, 6.0]))
    assert record["methods"]["policy"]["loss"]["ci95"] == [interval.low, interval.high]
    against = record["methods"]["tuned"]["vs_policy"]
    assert against["mean_difference"] == pytest.approx((1.5 + 0 + 2) / 3)
    assert against["accuracy"]["mean_difference"] == pytest.approx((0 - 0.15 + 0) / 3)
    assert record["methods"]["tuned"]["diverged"] == 2, "tasks, not members"


def test_tasks_are_listed_one_by_one_with_their_members(found, tmp_path):
    write_tasks_csv(found, tmp_path / "tasks.csv")
    rows = list(csv.DictReader((tmp_path / "tasks.csv").read_text().splitlines()))
    assert [row["member"] for row in rows if row["method"] == "tuned"] == ["b", "a", "b", "a", "c"]
    assert [float(row["loss"]) for row in rows if row["method"] == "policy"] == [1, 2, 3, 4, 6]


def test_the_headline_counts_tables(found):
    assert headline(found).startswith("On 3 held-out tables of sinusoids ")
