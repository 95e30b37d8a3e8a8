import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.results import (
    method_rows,
    package_versions,
    results_record,
    write_results,
    write_tasks_csv,
)

CONTRACT = {
    "format", "tasks", "split", "split_hash", "n_tasks", "horizon", "seed", "versions", "methods",
}  # fmt: skip
METHOD_CONTRACT = {"loss", "accuracy", "vs_policy", "trials", "seconds", "inner_steps", "diverged"}


def outcome(name, loss, accuracy=None, trials=None, diverged=()):
    loss = np.array(loss)
    return MethodOutcome(
        name=name,
        description=f"the {name}",
        loss=loss,
        accuracy=None if accuracy is None else np.array(accuracy),
        curve=np.stack([loss + 1, loss], axis=1),
        diverged=np.isin(np.arange(len(loss)), diverged),
        seconds=1.5,
        inner_steps=30,
        trials=trials,
        settings={"lr": 0.1},
    )


def comparison(*methods, kind="classification"):
    return Comparison(
        tasks="sinusoids",
        kind=kind,
        split="meta_test",
        split_hash="abc",
        n_tasks=len(methods[0].loss),
        horizon=10,
        seed=3,
        curve_steps=np.array([0, 10]),
        methods={method.name: method for method in methods},
        notes=("σ is fixed",),
    )


@pytest.fixture
def found():
    policy = outcome("policy", [0.1, 0.2, 0.4], accuracy=[0.9, 0.8, 0.7])
    tuned = outcome("tuned", [0.3, 0.2, 1e30], accuracy=[0.5, 0.6, 1 / 3], trials=7, diverged=[2])
    return comparison(policy, tuned)


def read_strictly(path):
    def refuse(word):
        raise AssertionError(f"{word} in the file")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_file_keeps_the_contract(found, tmp_path):
    write_results(found, tmp_path / "results.json")
    record = read_strictly(tmp_path / "results.json")
    assert set(record) >= CONTRACT
    assert set(record) - CONTRACT == {"kind", "notes", "unit", "n_units", "batch_statistics"}
    assert record["format"] == 1
    assert {key: record[key] for key in ("tasks", "split", "split_hash", "n_tasks", "horizon", "seed")} == {
        "tasks": "sinusoids",
        "split": "meta_test",
        "split_hash": "abc",
        "n_tasks": 3,
        "horizon": 10,
        "seed": 3,
    }
    assert record["versions"] == package_versions()
    assert list(record["methods"]) == ["policy", "tuned"]
    for method in record["methods"].values():
        assert set(method) - METHOD_CONTRACT == {"description", "settings"}
        assert set(method) >= METHOD_CONTRACT
        assert set(method["loss"]) == set(method["accuracy"]) == {"mean", "ci95"}
    assert record["methods"]["policy"]["vs_policy"] is None
    assert record["methods"]["policy"]["trials"] is None
    tuned = record["methods"]["tuned"]
    assert set(tuned["vs_policy"]) == {"mean_difference", "ci95", "win_rate", "accuracy"}
    assert (tuned["trials"], tuned["diverged"], tuned["inner_steps"], tuned["seconds"]) == (7, 1, 30, 1.5)


@pytest.mark.parametrize("statistics", ["transductive", "inductive", None])
def test_the_record_says_what_normalised_predictions(found, statistics):
    comparison = replace(found, batch_statistics=statistics)
    assert results_record(comparison, {})["batch_statistics"] == statistics
    assert {row.get("batch_statistics") for row in method_rows(comparison)} == {statistics}


def test_numbers_are_means_over_tasks_paired_with_the_policy(found):
    record = results_record(found, {})
    policy = record["methods"]["policy"]
    low, high = policy["loss"]["ci95"]
    assert policy["loss"]["mean"] == pytest.approx(0.7 / 3)
    assert low < policy["loss"]["mean"] < high
    assert policy["accuracy"]["mean"] == pytest.approx(0.8)
    against = record["methods"]["tuned"]["vs_policy"]
    assert against["mean_difference"] == pytest.approx(1e30 / 3)
    assert against["ci95"][0] < against["mean_difference"] < against["ci95"][1]
    assert against["win_rate"] == pytest.approx((1 + 0.5 + 1) / 3)


def test_the_order_of_methods_is_kept_and_the_text_is_stable(found, tmp_path):
    write_results(found, tmp_path / "first.json")
    write_results(found, tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_regression_has_null_for_accuracy(tmp_path):
    regression = comparison(outcome("policy", [1.0, 2.0]), outcome("sgd", [2.0, 2.0]), kind="regression")
    write_results(regression, tmp_path / "results.json")
    write_tasks_csv(regression, tmp_path / "tasks.csv")
    methods = read_strictly(tmp_path / "results.json")["methods"]
    assert [method["accuracy"] for method in methods.values()] == [None, None]
    assert {row["accuracy"] for row in read_rows(tmp_path / "tasks.csv")} == {""}


def test_nan_in_an_outcome_is_refused_and_the_old_file_stays(found, tmp_path):
    write_results(found, tmp_path / "results.json")
    before = (tmp_path / "results.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(comparison(outcome("policy", [np.nan, 1.0])), tmp_path / "results.json")
    assert (tmp_path / "results.json").read_bytes() == before


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tasks_csv_agrees_with_results_json(found, tmp_path):
    write_results(found, tmp_path / "results.json")
    write_tasks_csv(found, tmp_path / "tasks.csv")
    rows = read_rows(tmp_path / "tasks.csv")
    assert list(rows[0]) == ["task", "method", "loss", "accuracy", "diverged", "loss_minus_policy", "loss_before"]
    assert [(row["task"], row["method"]) for row in rows] == [(t, m) for t in "012" for m in ("policy", "tuned")]
    for name, method in read_strictly(tmp_path / "results.json")["methods"].items():
        own = [row for row in rows if row["method"] == name]
        assert np.mean([float(row["loss"]) for row in own]) == method["loss"]["mean"]
        assert np.mean([float(row["accuracy"]) for row in own]) == method["accuracy"]["mean"]
        assert [float(row["loss_before"]) for row in own] == [float(row["loss"]) + 1 for row in own]
        assert sum(row["diverged"] == "true" for row in own) == method["diverged"]
        if method["vs_policy"] is None:
            assert {row["loss_minus_policy"] for row in own} == {""}
        else:
            difference = [float(row["loss_minus_policy"]) for row in own]
            assert np.mean(difference) == method["vs_policy"]["mean_difference"]


def test_versions_name_what_the_numbers_depend_on():
    versions = package_versions()
    assert {"metaopt", "python", "torch", "numpy", "optuna", "scikit-learn"} <= set(versions)
    assert "unknown" not in versions.values()


def test_a_search_stands_under_its_own_key(found, tmp_path):
    write_results(found, tmp_path / "with.json", search={"unit": "task"})
    write_results(found, tmp_path / "without.json")
    record = read_strictly(tmp_path / "with.json")
    assert record.pop("search") == {"unit": "task"}
    assert record == read_strictly(tmp_path / "without.json")
