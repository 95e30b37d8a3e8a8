import csv

import numpy as np
from search_makers import search_of

from metaopt.search.trials_csv import TRIAL_COLUMNS, write_trials_csv


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_trial_has_a_row_with_what_was_tried(tmp_path):
    loss = np.array([[0.3, 1 / 3], [0.7, 0.6]])
    sgd, adam = {"optimizer": "sgd", "lr": 0.1, "nesterov": True}, {"optimizer": "adam", "lr": 1e-5, "width": 64}
    first = search_of(loss, "tpe", accuracy=1 - loss, settings=[[sgd, adam], [adam, sgd]])
    first.chosen[:] = [[0, 1], [0, 0]]
    first.diverged[1, 1] = True
    second = search_of([[0.9], [0.8]], "gp", settings=[[{"l2": None}], [{"l2": 0.5}]])
    write_trials_csv([first, second], tmp_path / "trials.csv")
    rows = rows_of(tmp_path / "trials.csv")
    assert list(rows[0]) == [*TRIAL_COLUMNS, "optimizer", "lr", "nesterov", "width", "l2"]
    assert [(row["task"], row["method"], row["trial"]) for row in rows] == [
        ("0", "tpe", "0"), ("0", "tpe", "1"), ("0", "gp", "0"),
        ("1", "tpe", "0"), ("1", "tpe", "1"), ("1", "gp", "0"),
    ]  # fmt: skip
    assert rows[1] == {
        "task": "0",
        "method": "tpe",
        "trial": "1",
        "validation_loss": repr(1 / 3 + 0.5),
        "diverged": "false",
        "chosen": "1",
        "test_loss_of_answer": repr(1 / 3),
        "accuracy": repr(1 - 1 / 3),
        "optimizer": "adam",
        "lr": "1e-05",
        "nesterov": "",
        "width": "64",
        "l2": "",
    }
    assert (rows[4]["diverged"], rows[4]["chosen"], rows[4]["nesterov"]) == ("true", "0", "true")
    assert (rows[2]["accuracy"], rows[2]["l2"], rows[5]["l2"]) == ("", "", "0.5")


def test_tables_are_named_where_tasks_are_draws_from_them(tmp_path):
    write_trials_csv([search_of([[0.9, 0.8], [0.8, 0.7]])], tmp_path / "trials.csv", ("iris", "wine"))
    assert [row["member"] for row in rows_of(tmp_path / "trials.csv")] == ["iris", "iris", "wine", "wine"]


def test_without_a_search_only_the_header_is_written(tmp_path):
    write_trials_csv([], tmp_path / "trials.csv")
    assert (tmp_path / "trials.csv").read_text().strip().split(",") == list(TRIAL_COLUMNS)
