"""A policy whose examples join one part after the other; its rivals see all of them from the first step on."""

import csv
import json

import numpy as np
import pytest
from command_helpers import error_line, evaluate_small, run_train, train_small

ADAPTIVE = ("policy=adaptive", "model.widths=[8]", "inner.horizon=12", "evaluation.baseline_init=fresh")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run, one of them with examples that join one part after the other."""
    folder = tmp_path_factory.mktemp("runs")
    for order in ("epochs", "progressive"):
        assert train_small(folder / order, *ADAPTIVE, f"policy.order={order}") == 0
    return folder


def losses(path, method):
    with path.open(newline="") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file) if row["method"] == method])


def test_baselines_train_as_they_do_beside_any_policy(runs):
    for method in ("sgd", "adam"):
        ours, theirs = (losses(runs / order / "tasks.csv", method) for order in ("progressive", "epochs"))
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (losses(runs / order / "tasks.csv", "policy") for order in ("progressive", "epochs"))
    assert (ours != theirs).all()


def test_searches_train_in_epochs_and_those_around_the_policy_as_it_does(runs, tmp_path):
    words = ("search.methods=[random]", "search.trials=3", "search.warm_start=both", "search.workers=1")
    out = tmp_path / "out"
    assert evaluate_small(runs / "progressive", out, *words) == 0
    with (out / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    # The policy itself is the first trial of a search that starts from it.
    first = [row for row in trials if row["method"] == "random_warm" and row["trial"] == "0"]
    found = [float(row["test_loss_of_answer"]) for row in first]
    np.testing.assert_allclose(found, losses(out / "tasks.csv", "policy"), rtol=1e-4)


def test_a_report_says_what_the_network_makes_of_the_strengths(runs):
    assert "A network multiplies the learning rate" in (runs / "progressive" / "report.html").read_text()
    assert (runs / "progressive" / "figures" / "multipliers.png").exists()


def test_the_policy_file_keeps_the_order(runs):
    config = (runs / "progressive" / "config.yaml").read_text()
    assert "order: progressive" in config
    results = json.loads((runs / "progressive" / "results.json").read_text())
    assert results["methods"]["policy"]["diverged"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inner.horizon=11",), "at least 12 steps"),
        (("inner.horizons=[5,50]",), "trainings have 5"),
        (("inner.horizon=12", "policy.order=random"), "policy.order is 'random'"),
        (("inner.horizon=12", "tasks.support=1", "tasks.n_way=2"), "at least 4 support examples"),
    ],
)
def test_what_cannot_be_progressive_is_refused(tmp_path, capsys, words, message):
    run = ("policy=adaptive", "policy.order=progressive", f"run_dir={tmp_path / 'run'}", "tracking=none", *words)
    assert run_train(*run) != 0
    assert message in error_line(capsys)
