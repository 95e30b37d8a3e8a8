import csv
import json

import pytest
from command_helpers import FEW, SMALL, error_line, evaluate_small, run_train, train_small

CONV4 = (*(word for word in SMALL if not word.startswith("model.")), "model=conv4", "model.channels=2", *FEW)
RESULTS = ["results.json", "results_inductive.json", "tasks.csv", "tasks_inductive.csv"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run_train(f"run_dir={folder}", *CONV4) == 0
    return folder


def read(path):
    return json.loads(path.read_text())


def results_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name in RESULTS)


def numbers(record):
    """What is not a time."""
    return {name: {key: method[key] for key in ("loss", "accuracy", "vs_policy")} for name, method in record.items()}


def test_both_ways_to_normalise_are_recorded_apart(run_dir):
    assert results_in(run_dir) == RESULTS
    first, second = (read(run_dir / name) for name in RESULTS[:2])
    assert (first["batch_statistics"], second["batch_statistics"]) == ("transductive", "inductive")
    assert any("sees all test inputs" in note for note in first["notes"])
    assert any("sees no other test input" in note for note in second["notes"])
    assert list(first["methods"]) == list(second["methods"]) == ["policy", "sgd", "adam", "tuned"]
    assert first["methods"]["policy"]["loss"] != second["methods"]["policy"]["loss"]
    for table, record in zip(RESULTS[2:], (first, second), strict=True):
        with (run_dir / table).open(newline="") as file:
            losses = [float(row["loss"]) for row in csv.DictReader(file) if row["method"] == "policy"]
        assert sum(losses) / len(losses) == pytest.approx(record["methods"]["policy"]["loss"]["mean"])


@pytest.mark.parametrize("way", ["transductive", "inductive"])
def test_one_way_alone_has_the_usual_files(way, run_dir, tmp_path):
    assert evaluate_small(run_dir, tmp_path / "out", f"batch_statistics={way}") == 0
    assert results_in(tmp_path / "out") == ["results.json", "tasks.csv"]
    found = read(tmp_path / "out" / "results.json")
    expected = read(run_dir / ("results.json" if way == "transductive" else "results_inductive.json"))
    assert found["batch_statistics"] == way
    assert numbers(found["methods"]) == numbers(expected["methods"])


def test_both_are_told_by_name(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, tmp_path / "out", "baselines=[sgd]") == 0
    printed = capsys.readouterr().out
    assert "Transductive: On 3 held-out" in printed
    assert "Inductive: On 3 held-out" in printed
    assert str(tmp_path / "out" / "results_inductive.json") in printed.replace("\n", "")


def test_a_model_without_batch_statistics_has_one_way(tmp_path):
    assert train_small(tmp_path / "run", "evaluation.batch_statistics=inductive", "evaluation.baselines=[]") == 0
    assert results_in(tmp_path / "run") == ["results.json", "tasks.csv"]
    assert read(tmp_path / "run" / "results.json")["batch_statistics"] is None


def test_another_way_is_refused(tmp_path, capsys):
    assert train_small(tmp_path / "run", "evaluation.batch_statistics=running") == 2
    line = error_line(capsys)
    assert "evaluation.batch_statistics is 'running'" in line
    assert "both, transductive, inductive" in line
