import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.report import style

PLACES = st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=12).map(sorted)


@given(PLACES, st.floats(0.01, 0.08))
def test_spread_places_keep_their_distance_and_stay_inside(places, gap):
    found = style.spread(places, gap)
    assert len(found) == len(places)
    assert np.diff(found).min(initial=1.0) >= gap - 1e-9
    assert min(found) >= -1e-9
    assert max(found) <= 1 + 1e-9


def test_spread_leaves_alone_what_is_apart():
    assert style.spread([0.1, 0.5, 0.9], 0.06) == [0.1, 0.5, 0.9]
    assert style.spread([0.1, 0.5, 0.5], 0.06) == pytest.approx([0.1, 0.47, 0.53])


def test_more_labels_than_fit_are_centred():
    found = style.spread([0.5] * 30, 0.06)
    assert np.mean(found) == pytest.approx(0.5)
    assert np.diff(found) == pytest.approx(0.06)


def test_baselines_look_different_and_the_policy_always_the_same():
    names = ["policy", "sgd", "adam", "tuned"]
    styles = style.method_styles(names)
    assert len({look.colour for look in styles.values()}) == len({str(look.dashes) for look in styles.values()}) == 4
    assert styles["policy"] == style.method_styles(["sgd", "policy"])["policy"]
    assert styles["sgd"] == style.method_styles(["sgd", "policy"])["sgd"]


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.11), (0.03, 4.0), (1e-4, 20.0), (1e-9, 1e9), (1e-38, 1e38)])
def test_logarithmic_axes_have_some_labels_and_not_too_many(low, high, drawn):
    figure = style.new_figure(7, 4)
    axes = figure.add_subplot()
    style.logarithmic(axes, "x", low, high)
    drawn(figure)
    shown = [label for label in axes.get_xticklabels() if label.get_text() and low <= label.get_position()[0] <= high]
    assert 2 <= len(shown) <= 14


@pytest.mark.parametrize("last", [0, 1, 5, 1000])
def test_ticks_of_steps_are_whole_numbers(last, drawn):
    figure = style.new_figure(7, 4)
    axes = figure.add_subplot()
    axes.plot(np.arange(last + 1), np.ones(last + 1))
    style.integer_ticks(axes)
    drawn(figure)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_decades_are_spanned_by_positive_finite_values_only():
    assert style.spans_decades(0.01, 1.0)
    assert not style.spans_decades(0.5, 1.0)
    assert not style.spans_decades(0.0, 1.0)
    assert not style.spans_decades(0.01, math.inf)


def test_labels_keep_both_ends_of_long_names_and_are_no_mathematics():
    assert style.label("output.weight") == "output.weight"
    long = "blocks.0." + "very_" * 20 + "long.weight"
    assert len(style.label(long)) == 32
    assert style.label(long).startswith("blocks.0.")
    assert style.label(long).endswith("long.weight")
    assert style.label(r"$\no$") == r"\$\no\$"
