"""What a user with a folder of tables sees, from the first command on."""

import csv
import json

import pytest
from command_helpers import evaluate_small, run_train, train_small
from table_makers import write_patients


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return write_patients(tmp_path_factory.mktemp("own") / "tables", n=10)


@pytest.fixture(scope="module")
def run_dir(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train_small(folder, "tasks=folder", f"tasks.path={tables}", "policy=role") == 0
    return folder


def test_the_tables_are_shown_before_training(tables, tmp_path, capsys):
    assert train_small(tmp_path / "run", "tasks=folder", f"tasks.path={tables}", "evaluation.n_tasks=0") == 0
    before, training, _ = capsys.readouterr().out.partition("Meta-training")
    assert training
    for i in range(10):
        assert f" h{i} " in before
    assert "Classification, because targets are texts" in before
    assert "20 rows to train on (support), 10 query, 10 test" in before


def test_results_are_of_held_out_tables(run_dir):
    results = json.loads((run_dir / "results.json").read_text())
    assert results["tasks"] == "folder"
    with (run_dir / "tasks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["member"] for row in rows} == {"h2", "h5"}


def test_the_policy_can_be_evaluated_and_the_tables_are_shown_again(run_dir, tmp_path, capsys):
    assert evaluate_small(run_dir, tmp_path / "out", "baselines=[sgd]") == 0
    captured = capsys.readouterr()
    assert " h9 " in captured.out
    assert captured.err == ""


def test_bad_tables_are_listed_a_line_each_before_any_work(tmp_path, capsys):
    folder = write_patients(tmp_path / "tables")
    (folder / "h1.csv").write_text("")
    (folder / "h2.csv").write_text("age,target\n1,ill\n2,well\n3,ill\n")
    assert run_train("tasks=folder", f"tasks.path={folder}", f"run_dir={tmp_path / 'run'}", "tracking=none") == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("error: folder: 2 of the tables cannot be used; mend them")
    assert [line.partition(":")[0] for line in others] == ["  h1.csv", "  h2.csv"]
    assert "has 3 rows" in others[1]
    assert not (tmp_path / "run").exists()


def test_skipped_tables_are_shown_and_the_others_go_on(tmp_path, capsys):
    folder = write_patients(tmp_path / "tables")
    (folder / "h1.csv").write_text("")
    words = ("tasks=folder", f"tasks.path={folder}", "tasks.on_bad_task=skip", "evaluation.n_tasks=0")
    assert train_small(tmp_path / "run", *words) == 0
    assert "Left out: h1.csv: is empty; fill it, or remove it" in capsys.readouterr().out
