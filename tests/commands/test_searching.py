"""Search beside a policy, from the command line."""

import csv
import json
import math

import pytest
from command_helpers import SMALL, error_line, evaluate_small, run_evaluate, run_train, train_small

METHODS = "search.methods=[random,tpe]"
ALONE = "search.workers=1"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_small(folder, "model.widths=[8]", "policy=role") == 0
    return folder


def results_in(folder):
    return json.loads((folder / "results.json").read_text())


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def finite(node):
    if isinstance(node, dict):
        return all(map(finite, node.values()))
    if isinstance(node, list):
        return all(map(finite, node))
    return not isinstance(node, float) or math.isfinite(node)


def test_searches_stand_beside_the_policy_in_every_file(run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    words = (METHODS, "search.trials=4", "search.warm_start=both", "evaluate.fallback=true", ALONE)
    assert evaluate_small(run_dir, out, *words) == 0
    results = results_in(out)
    searches = ["random", "random_warm", "tpe", "tpe_warm"]
    assert list(results["methods"]) == ["policy", "sgd", "adam", "tuned", "mapped", "fallback", *searches]
    assert list(results["search"]["methods"]) == searches
    assert finite(results)
    for name in searches:
        found = results["search"]["methods"][name]
        assert results["methods"][name]["trials"] == 4
        assert len(found["loss"]["mean"]) == 4
        assert found["loss"]["mean"][-1] == results["methods"][name]["loss"]["mean"]
        assert results["methods"][name]["inner_steps"] == 3 * 4 * 3
    assert results["methods"]["fallback"]["inner_steps"] == 3 * 2 * 3
    assert results["search"]["mapping"]["optimizer"] == "kept as the policy has it"
    assert results["search"]["negative_transfer"]["against"] == "tuned"
    assert len(rows_of(out / "tasks.csv")) == 3 * 10
    assert len(rows_of(out / "trials.csv")) == 3 * 4 * 4
    assert {path.name for path in (out / "figures").iterdir()} >= {"regret.png", "trials_to_match.png"}
    page = (out / "report.html").read_text()
    assert "tpe_warm" in page
    assert results["split_hash"] in page
    printed = capsys.readouterr().out
    assert "4 trials per task" in printed
    assert "Negative transfer" in printed


def test_a_fallback_always_has_something_to_fall_back_on(run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "out", "baselines=[sgd]", "evaluate.fallback=true") == 0
    results = results_in(tmp_path / "out")
    assert list(results["methods"]) == ["policy", "sgd", "mapped", "fallback"]
    assert results["search"]["negative_transfer"]["against"] == "mapped"


def test_a_policy_that_has_no_fallback_is_refused_one(tmp_path, capsys):
    words = ("policy=torch_optimizer", "inner.engine=higher")
    assert train_small(tmp_path / "run", *words) == 0
    capsys.readouterr()
    assert evaluate_small(tmp_path / "run", tmp_path / "out", "evaluate.fallback=true") == 2
    line = error_line(capsys)
    assert "evaluate.fallback" in line
    assert "leave it out" in line
    assert not (tmp_path / "out").exists()


def test_a_warm_search_begins_with_the_policy_and_is_never_worse_on_validation(run_dir, tmp_path):
    out = tmp_path / "out"
    assert evaluate_small(run_dir, out, "search.methods=[tpe]", "search.warm_start=true", "search.trials=3", ALONE) == 0
    first = results_in(out)["search"]["methods"]["tpe_warm"]["loss"]["mean"][0]
    assert first == pytest.approx(results_in(out)["methods"]["policy"]["loss"]["mean"], rel=1e-5)
    trials = rows_of(out / "trials.csv")
    for task in ("0", "1", "2"):
        values = [float(row["validation_loss"]) for row in trials if row["task"] == task]
        chosen = [int(row["chosen"]) for row in trials if row["task"] == task]
        assert all(values[c] == min(values[: n + 1]) for n, c in enumerate(chosen))


def test_the_search_at_the_end_of_meta_training_is_that_of_an_evaluation(tmp_path):
    words = (METHODS, "search.trials=3", ALONE, "evaluation.n_tasks=3", "outer.iterations=2")
    assert run_train(f"run_dir={tmp_path / 'run'}", *SMALL, *words) == 0
    again = (f"checkpoint={tmp_path / 'run'}", f"run_dir={tmp_path / 'out'}", "n_tasks=3", "search.tasks_per_trial=2")
    assert run_evaluate(*again, METHODS, "search.trials=3", ALONE) == 0
    found, expected = (results_in(tmp_path / name)["search"]["methods"] for name in ("out", "run"))
    for name in ("random", "tpe"):
        assert found[name]["loss"] == expected[name]["loss"]
    assert (tmp_path / "run" / "report.html").exists()


def test_a_stopped_search_is_found_again_in_its_storage(run_dir, tmp_path):
    storage = f"search.storage=sqlite:///{tmp_path / 'search.db'}"
    for name, trials in (("few", 2), ("more", 4), ("fresh", 4)):
        words = (f"search.trials={trials}", ALONE, *([storage] if name != "fresh" else []))
        assert evaluate_small(run_dir, tmp_path / name, "search.methods=[tpe]", *words) == 0
    tried = {name: rows_of(tmp_path / name / "trials.csv") for name in ("few", "more", "fresh")}
    hyperparameters = ("optimizer", "lr", "l2", "schedule", "batch_size", "validation_loss")
    points = {name: [[row[key] for key in hyperparameters] for row in rows] for name, rows in tried.items()}
    assert points["more"] == points["fresh"]
    assert [point for i, point in enumerate(points["more"]) if i % 4 < 2] == points["few"]


def test_meta_training_leaves_what_it_spent_and_evaluation_reads_it(run_dir, tmp_path):
    cost = json.loads((run_dir / "meta_training.json").read_text())
    assert cost["seconds"] > 0
    assert cost["inner_steps"] == 4 * 2 * 3
    assert evaluate_small(run_dir, tmp_path / "out", "search.methods=[random]", ALONE) == 0
    assert results_in(tmp_path / "out")["search"]["meta_training"] == {
        "inner_steps": cost["inner_steps"],
        "seconds": cost["seconds"],
    }
    alone = tmp_path / "policy.safetensors"
    alone.write_bytes((run_dir / "policy.safetensors").read_bytes())
    assert evaluate_small(alone, tmp_path / "alone", "search.methods=[random]", ALONE) == 0
    assert results_in(tmp_path / "alone")["search"]["meta_training"]["seconds"] is None


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("search.methods=[annealing]", ["search.methods", "annealing", "tpe"]),
        ("search.methods=[tpe] search.space=[lr,colour]", ["search.space", "colour", "momentum"]),
        ("search.methods=[tpe] search.validation=guess", ["search.validation", "guess", "kfold"]),
        ("search.methods=[tpe] search.warm_start=maybe", ["search.warm_start", "maybe", "both"]),
        ("search.methods=[tpe] search.storage=nonsense", ["search.storage", "nonsense", "sqlite:///"]),
        ("search.methods=[tpe] search.validation=kfold search.folds=900", ["search.folds", "900", "fewer"]),
        ("search.validation=kfold search.folds=900", ["search.folds", "900", "fewer"]),
        ("search.methods=[tpe,tpe]", ["search.methods", "once"]),
        ("search.trials=0", ["search.trials", "at least 1"]),
        ("evaluate.fallback=perhaps", ["evaluate.fallback", "perhaps"]),
    ],
)
def test_bad_input_is_one_clear_line_before_any_work(run_dir, tmp_path, capsys, words, parts):
    assert run_evaluate(f"checkpoint={run_dir}", f"run_dir={tmp_path / 'out'}", "n_tasks=3", *words.split()) == 2
    line = error_line(capsys)
    for part in parts:
        assert part in line
    assert not (tmp_path / "out").exists()
