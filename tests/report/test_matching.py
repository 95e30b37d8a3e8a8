from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import same_color

from metaopt.report.matching import match_bins, match_shares, matching_figure
from metaopt.report.style import BLUE, RED


def bars(figure):
    """Shares by row and column, as drawn, [rows, columns]."""
    patches = [patch for container in figure.axes[0].containers for patch in container]
    rows = len(figure.axes[0].containers)
    return np.array([abs(patch.get_height()) for patch in patches]).reshape(rows, -1), patches


@pytest.fixture
def by_hand(searches):
    """Two searches of 100 trials: one matches on half of the tasks at once, the other never."""
    sometimes = np.array([1, 1, 1, 1, 3, 10, 11, 100, 0, 0])
    method = searches.methods["tpe"]
    methods = {
        "tpe": replace(method, match=sometimes, trials=100),
        "grid": replace(method, name="grid", match=np.zeros(10, dtype=int), trials=100),
    }
    return replace(searches, methods=methods, n_units=10)


@given(st.integers(1, 100_000))
def test_bins_hold_every_number_of_trials_once(trials):
    bins = match_bins(trials)
    assert bins[0] == (1, 1)
    assert bins[-1][1] == trials
    assert all(first <= last for first, last in bins)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(bins))


def test_bins_widen_like_a_logarithm():
    assert match_bins(100) == [(1, 1), (2, 3), (4, 10), (11, 30), (31, 100)]
    assert match_bins(12) == [(1, 1), (2, 3), (4, 10), (11, 12)]


@given(st.lists(st.integers(0, 57), min_size=1, max_size=40))
def test_shares_are_of_all_tasks(searches, match):
    method = replace(searches.methods["tpe"], match=np.array(match), trials=57)
    shares = match_shares(method, match_bins(57))
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == np.mean(np.array(match) == 1)
    assert shares[-1] == np.mean(np.array(match) == 0)


def test_bars_are_the_shares_and_each_is_written(by_hand, drawn):
    figure = drawn(matching_figure(by_hand))
    heights, _ = bars(figure)
    expected = np.array([[0.4, 0.1, 0.1, 0.1, 0.1, 0.2], [0, 0, 0, 0, 0, 1]])
    np.testing.assert_allclose(heights / heights.max(), expected, atol=1e-9)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["40 %", "10 %", "10 %", "10 %", "10 %", "20 %", "0 %", "0 %", "0 %", "0 %", "0 %", "100 %"]


def test_never_and_at_once_stand_out_and_are_named(by_hand, drawn):
    figure = drawn(matching_figure(by_hand))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["1\nat once", "2–3", "4–10", "11–30", "31–100", "never"]
    _, patches = bars(figure)
    assert same_color(patches[0].get_facecolor(), RED)
    assert same_color(patches[5].get_facecolor(), BLUE)


def test_rows_are_the_searches_from_the_top_and_bars_stand_on_them(by_hand, drawn):
    axes = drawn(matching_figure(by_hand)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tpe", "grid"]
    assert axes.yaxis_inverted()
    for row, container in enumerate(axes.containers):
        assert all(
            patch.get_y() == row and patch.get_height() <= 0 for patch in container
        )  # upwards, as it is inverted


def test_a_bar_for_all_tasks_does_not_reach_the_row_above(by_hand):
    heights, _ = bars(matching_figure(by_hand))
    assert heights.max() < 0.75


@pytest.mark.parametrize("trials", [1, 2, 1000])
@pytest.mark.parametrize("count", [1, 12])
def test_edge_cases_are_drawn(make_comparison, make_account, drawn, trials, count):
    curves = {f"search{k}": np.full((1, trials), 0.1 * k) for k in range(count)}
    figure = drawn(matching_figure(make_account(make_comparison({"policy": [0.5]}), curves)))
    assert len(figure.axes[0].containers) == count
