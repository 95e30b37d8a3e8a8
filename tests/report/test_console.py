import io

import numpy as np
import pytest
from rich.console import Console

from metaopt.report.console import comparison_table


def printed(comparison, width=80):
    """The table as a terminal of that width shows it, without colours."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(comparison_table(comparison))
    return file.getvalue()


def row(text, method):
    return next(line for line in text.splitlines() if line.split()[:1] == [method])


@pytest.fixture
def wide(make_comparison):
    """Every column there is, with names, numbers and a description that are long."""
    random = np.random.default_rng(0)
    losses = {"policy": random.uniform(0, 1, 40), "sgd": random.uniform(0, 1e30, 40), "tuned": random.uniform(1, 2, 40)}
    notes = ("batch normalisation used the statistics of the whole test batch: predictions depend on each other",)
    return make_comparison(losses, accuracy=True, trials={"tuned": 10000}, diverged={"sgd": 40}, notes=notes)


def test_it_fits_into_80_columns_and_cuts_nothing(wide):
    text = printed(wide)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for title in ("Method", "Test loss", "Accuracy", "Difference", "Wins", "Trials", "Diverged"):
        assert title in text.splitlines()[0] + text.splitlines()[1]
    for cell in ("75.0 %", "10000", "policy", "the sgd", "Note:"):
        assert cell in text


def test_no_value_is_nan(wide, make_comparison):
    assert "nan" not in printed(wide).lower()
    assert "nan" not in printed(make_comparison({"policy": [0.5], "sgd": [0.5]})).lower()


def test_the_difference_is_positive_where_the_policy_is_better(make_comparison):
    text = printed(make_comparison({"policy": [1.0, 2.0], "worse": [1.5, 2.5], "better": [0.8, 1.8]}))
    assert "+0.50" in row(text, "worse")
    assert "100 %" in row(text, "worse")
    assert "-0.20" in row(text, "better")
    assert "0 %" in row(text, "better")
    assert row(text, "policy").count("–") == 2  # neither a difference nor wins against itself


def test_columns_without_content_are_left_out(make_comparison):
    losses = {"policy": [1.0, 2.0], "sgd": [1.5, 2.5]}
    bare = printed(make_comparison(losses)).splitlines()[1]
    assert bare.split() == ["Method", "Test", "loss", "Difference", "Wins"]
    full = printed(make_comparison(losses, accuracy=True, trials={"sgd": 3}, diverged={"sgd": 1}))
    assert full.splitlines()[1].split()[3:] == ["Accuracy", "Difference", "Wins", "Trials", "Diverged"]
    assert row(full, "sgd").split()[-2:] == ["3", "1"]
    assert row(full, "policy").split()[-2:] == ["–", "0"]


def test_the_interval_stands_below_its_mean(make_comparison):
    lines = printed(make_comparison({"policy": [1.0, 2.0, 3.0]})).splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:1] == ["policy"])
    assert "2.00" in lines[at]
    assert "±2.48" in lines[at + 1]  # 4.30 (Student, 2 degrees of freedom) × 1 / √3


def test_one_task_has_no_interval(make_comparison):
    text = printed(make_comparison({"policy": [1.0], "sgd": [2.0]}, horizon=1))
    assert "±" not in text
    assert "1 task of digits (meta_test), horizon 1 step." in " ".join(text.split())


def test_colour_says_what_the_headline_says(make_comparison):
    losses = {"policy": [1.0, 2.0], "worse": [1.5, 2.501], "same": [1.1, 1.9]}
    table = comparison_table(make_comparison(losses))
    cells = next(list(column.cells) for column in table.columns if column.header == "Difference")
    assert [str(cell.style) for cell in cells] == ["", "green", ""]


def test_names_are_shown_as_they_are(make_comparison):
    # Rich reads brackets in plain strings as markup.
    assert "[bold]sgd" in printed(make_comparison({"policy": [1.0, 2.0], "[bold]sgd": [1.5, 2.5]}))
