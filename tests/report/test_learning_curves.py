from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text

from metaopt.report.learning_curves import learning_curves


def curve_of(figure, name):
    return next(line for line in figure.axes[0].get_lines() if line.get_label() == name)


def texts(figure):
    return {text.get_text().split()[0]: text for text in figure.axes[0].texts}


def test_lines_are_the_means_over_tasks(comparison, drawn):
    figure = drawn(learning_curves(comparison))
    for name, method in comparison.methods.items():
        line = curve_of(figure, name)
        np.testing.assert_array_equal(line.get_xdata(), comparison.curve_steps)
        np.testing.assert_allclose(line.get_ydata(), method.curve.mean(0))


def test_every_line_is_named_at_its_end_with_its_final_loss_in_its_colour(comparison, drawn):
    figure = drawn(learning_curves(comparison))
    assert set(texts(figure)) == set(comparison.methods)
    for name, text in texts(figure).items():
        assert float(text.get_text().split()[1]) == pytest.approx(comparison.methods[name].loss.mean(), abs=0.005)
        assert text.get_color() == curve_of(figure, name).get_color()


def test_labels_of_nearly_equal_curves_do_not_overlap(make_comparison, drawn):
    losses = {name: [0.5 + 1e-6 * k, 0.7] for k, name in enumerate(("policy", "sgd", "adam", "tuned"))}
    figure = drawn(learning_curves(make_comparison(losses)))
    boxes = sorted((Text.get_window_extent(text) for text in texts(figure).values()), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_the_label_of_a_line_lies_within_the_figure(make_comparison, drawn):
    figure = drawn(learning_curves(make_comparison({"policy": [0.1, 0.2], "a_rather_long_name": [0.5, 0.6]})))
    for text in texts(figure).values():
        assert Text.get_window_extent(text).x1 <= figure.bbox.x1


def test_losses_over_decades_have_a_logarithmic_axis(make_comparison):
    narrow = make_comparison({"policy": [0.5, 0.6]}, untrained=1.0)
    wide = make_comparison({"policy": [0.001, 0.002]}, untrained=1.0)
    assert learning_curves(narrow).axes[0].get_yscale() == "linear"
    assert learning_curves(wide).axes[0].get_yscale() == "log"


def test_the_policy_lies_on_top(comparison):
    assert learning_curves(comparison).axes[0].get_lines()[-1].get_label() == "policy"


@pytest.mark.parametrize(
    "losses",
    [
        {"policy": [0.5]},
        {"policy": [0.5, 0.5], "sgd": [0.5, 0.5]},
        {"policy": [0.0, 0.0], "sgd": [0.0, 0.0]},
        {"policy": [1e-12, 1e-11], "sgd": [1e30, 1e37]},
        {f"method{k}" if k else "policy": [0.1 * k, 0.2] for k in range(12)},
    ],
    ids=["one task", "all equal", "zero", "extreme", "many methods"],
)
@pytest.mark.parametrize("horizon", [1, 1000])
def test_edge_cases_are_drawn(make_comparison, drawn, losses, horizon):
    figure = drawn(learning_curves(make_comparison(losses, horizon=horizon)))
    assert len(figure.axes[0].get_lines()) == len(losses)


def test_points_that_are_not_finite_are_left_out(make_comparison, drawn):
    comparison = make_comparison({"policy": [0.5, 0.6], "sgd": [0.7, 0.8]})
    comparison.methods["sgd"].curve[1, 5:] = np.inf
    figure = drawn(learning_curves(comparison))
    assert np.isfinite(curve_of(figure, "sgd").get_ydata()).sum() == 5
    assert set(texts(figure)) == {"policy"}
