from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from metaopt.report.regret import regret_figure
from metaopt.report.style import BLUE, search_styles


def line(figure, name):
    return next(each for each in figure.axes[0].get_lines() if each.get_label() == name)


def rings(figure):
    """Places of the marks of matching, [marks, 2]."""
    marks = [each for each in figure.axes[0].get_lines() if each.get_label() == "_match"]
    return [(float(mark.get_xdata()[0]), float(mark.get_ydata()[0])) for mark in marks]


@pytest.fixture
def many(make_comparison, make_account):
    """Twelve searches of a hundred trials that all end close to each other."""
    random = np.random.default_rng(0)
    policy = random.uniform(0.2, 0.3, 30)
    names = [name + end for name in ("random", "grid", "tpe", "gp", "cmaes", "genetic") for end in ("", "_warm")]
    start = random.uniform(0.5, 1.5, len(names))
    curves = {n: policy[:, None] + 0.01 + s / np.arange(1, 101) for n, s in zip(names, start, strict=True)}
    return make_account(make_comparison({"policy": policy}), curves)


def test_lines_are_the_mean_losses_after_each_trial(searches, drawn):
    figure = drawn(regret_figure(searches))
    for name, method in searches.methods.items():
        np.testing.assert_array_equal(line(figure, name).get_xdata(), np.arange(1, 21))
        np.testing.assert_allclose(line(figure, name).get_ydata(), [each.mean for each in method.loss])


def test_the_policy_is_a_thick_blue_horizontal_line_over_all_trials(searches):
    policy = line(regret_figure(searches), "policy")
    assert list(policy.get_xdata()) == [1, 20]
    assert set(policy.get_ydata()) == {searches.policy.mean}
    assert policy.get_color() == BLUE
    assert policy.get_linewidth() > line(regret_figure(searches), "tpe").get_linewidth()


def test_a_warm_start_has_its_twins_colour_and_other_dashes(searches):
    figure = regret_figure(searches)
    cold, warm = line(figure, "tpe"), line(figure, "tpe_warm")
    assert cold.get_color() == warm.get_color() != line(figure, "random").get_color()
    assert cold.get_linestyle() != warm.get_linestyle()
    assert search_styles(["gp_warm"])["gp_warm"].colour  # a twin need not be there


def test_a_ring_marks_where_the_mean_matches_the_policy(searches):
    matched = [m for m in searches.methods.values() if m.match_on_mean is not None]
    assert len(matched) == 2
    expected = [(m.match_on_mean, m.loss[m.match_on_mean - 1].mean) for m in matched]
    np.testing.assert_allclose(rings(regret_figure(searches)), expected)


@pytest.mark.parametrize(("trials", "scale"), [(10, "linear"), (11, "log")])
def test_many_trials_have_a_logarithmic_axis(make_comparison, make_account, trials, scale):
    account = make_account(make_comparison({"policy": [0.1, 0.2]}), {"tpe": np.full((2, trials), 0.3)})
    assert regret_figure(account).axes[0].get_xscale() == scale


def test_the_labels_of_twelve_searches_are_all_read(many, drawn):
    figure = drawn(regret_figure(many))
    boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert len(boxes) == 13
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert figure.bbox.y0 <= boxes[0].y0
    assert boxes[-1].y1 <= figure.bbox.y1


@pytest.mark.parametrize(
    ("policy", "curve"),
    [
        ([0.5], [[0.4]]),
        ([0.5, 0.5], [[0.5], [0.5]]),
        ([0.0, 0.0], np.zeros((2, 12))),
        ([1e-12, 1e-11], np.geomspace(1e30, 1e-12, 40).reshape(2, 20)),
        ([0.5, 0.6], [[0.7, 0.6], [0.7, 0.6]]),
    ],
    ids=["one task", "one trial", "zero", "extreme", "two trials"],
)
def test_edge_cases_are_drawn(make_comparison, make_account, drawn, policy, curve):
    figure = drawn(regret_figure(make_account(make_comparison({"policy": policy}), {"tpe": curve})))
    assert len(figure.axes[0].texts) == 2


def test_searches_of_different_length_end_where_they_end(make_comparison, make_account, drawn):
    comparison = make_comparison({"policy": [0.1, 0.2]})
    figure = drawn(
        regret_figure(make_account(comparison, {"grid": np.full((2, 4), 0.3), "tpe": np.full((2, 30), 0.2)}))
    )
    assert line(figure, "grid").get_xdata()[-1] == 4
    assert figure.axes[0].get_xlim()[1] == 30
