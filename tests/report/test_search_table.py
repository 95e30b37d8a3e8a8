import io

import numpy as np
import pytest
from rich.console import Console
from search_makers import policy_of, search_of

from metaopt.report.search_table import search_table, shown_trials
from metaopt.search.account import account
from metaopt.search.records import Cost

COST = Cost(12_000, 60.0)


def printed(found, width=80):
    """The table as a terminal of that width shows it, without colours."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(search_table(found))
    return file.getvalue()


def row(text, method):
    return next(line for line in text.splitlines() if line.split()[:1] == [method])


def falling(policy, gap, trials, seed=0):
    """Curves that come down to `gap` above the policy's loss."""
    noise = np.abs(np.random.default_rng(seed).normal(0, 0.5, size=(len(policy), trials)))
    return policy[:, None] + gap + np.minimum.accumulate(noise, axis=1)


@pytest.fixture
def wide():
    """Every search there is, with names and numbers that are long."""
    policy = np.random.default_rng(0).uniform(0, 1, size=200)
    gaps = {"random": 0.02, "grid": 1e20, "cmaes_warm": 1e30, "genetic_warm": 1e-4, "tpe": -0.5}
    searches = [search_of(falling(policy, gap, 100), name) for name, gap in gaps.items()]
    return account(policy_of(policy), searches, Cost(10**12, 1e5), others=[policy_of(policy + 1, "sgd")])


def test_it_fits_into_80_columns_and_cuts_nothing(wide):
    text = printed(wide)
    assert max(len(line) for line in text.splitlines()) <= 80
    table = text.partition("Test loss of")[0]
    assert "…" not in table
    head = " ".join(table.splitlines()[:2])
    for title in ("Method", "1 ", "10 ", "100 ", "Differ-", "ence", "Wins", "p", "Match", "Never", "Break-"):
        assert title in head
    for cell in ("genetic_warm", "+1.00e30", "1.00e20", "at once", "never", "<.001"):
        assert cell in table
    assert "nan" not in text.lower()
    assert "correction for 6 methods" in " ".join(text.split())


def test_a_row_says_what_the_account_says():
    policy = np.array([0.5, 0.5, 0.5, 0.5])
    never = [[0.9] * 12, [0.8] * 12, [0.9] * 12, [0.8] * 12]
    slow = [[0.9] * 9 + [0.4] * 3] * 3 + [[0.9] * 12]
    found = account(policy_of(policy), [search_of(never, "grid"), search_of(slow, "tpe")], COST)
    text = printed(found)
    assert row(text, "policy").split() == ["policy", "0.500", "0.500", "0.500", *["–"] * 6]
    grid = row(text, "grid").split()
    assert grid == ["grid", "0.850", "0.850", "0.850", "+0.350", "100", "%", ".002", "never", "100", "%", "109"]
    after = row(text, "tpe").split()
    assert after[1:5] == ["0.900", "0.525", "0.525", "+0.025"]
    assert after[-4:] == ["never", "25", "%", "126"]  # 10.5 - 1 trials of 10 steps


def test_matching_at_once_pays_nothing_back():
    found = account(policy_of([0.5, 0.5]), [search_of([[0.4, 0.3], [0.3, 0.2]])], COST)
    assert row(printed(found), "random").split()[-5:] == ["at", "once", "0", "%", "–"]


@pytest.mark.parametrize(
    ("trials", "shown"), [(1, [1]), (2, [1, 2]), (10, [1, 10]), (11, [1, 10, 11]), (100, [1, 10, 100])]
)
def test_columns_of_losses_go_as_far_as_there_are_trials(trials, shown):
    policy = np.array([0.5, 0.6])
    found = account(policy_of(policy), [search_of(falling(policy, 0.1, trials))], COST)
    assert shown_trials(found) == shown
    assert printed(found).splitlines()[0].split()[: len(shown)] == [str(number) for number in shown]


def test_a_search_with_fewer_trials_has_no_loss_after_more():
    policy = np.array([0.5, 0.6, 0.7])
    searches = [search_of(falling(policy, 0.1, 20), "tpe"), search_of(falling(policy, 0.1, 4), "grid")]
    cells = row(printed(account(policy_of(policy), searches, COST)), "grid").split()
    assert (cells[2:4], cells[4][0]) == (["–", "–"], "+")


def test_colour_says_what_the_headline_says():
    policy = np.array([0.2, 0.3, 0.4, 0.5])
    noise = np.array([0.01, -0.01, 0.01, -0.01])
    losses = {"worse": policy + 0.2 + noise, "same": policy + noise, "better": policy - 0.1 + noise}
    table = search_table(account(policy_of(policy), [search_of(loss, name) for name, loss in losses.items()], COST))
    cells = next(list(column.cells) for column in table.columns if str(column.header).startswith("Differ"))
    assert [str(cell.style) for cell in cells] == ["", "green", "", "red"]


def test_tables_are_called_tables_and_one_unit_has_no_interval():
    found = account(
        policy_of([0.5, 0.6]), [search_of([[0.5], [0.7]])], COST, members="aa", unit="table", validation="kfold"
    )
    text = " ".join(printed(found).split())
    assert "±" not in text.replace("±:", "")
    assert "Means over 1 table. A single table gives no interval." in text
    assert "chosen by cross-validation" in text
