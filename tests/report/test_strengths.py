import numpy as np
import pytest

from metaopt.errors import ConfigError
from metaopt.report.strengths import strengths_by_layer


def rows(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def medians(figure):
    """Positions of the median points from the top."""
    found = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    return [float(line.get_xdata()[0]) for line in sorted(found, key=lambda line: line.get_ydata()[0])]


def test_there_is_a_row_for_each_tensor_in_the_models_order(reading, drawn):
    figure = drawn(strengths_by_layer(reading, "lr"))
    assert rows(figure) == list(reading.strengths["lr"])
    bottom, top = figure.axes[0].get_ylim()
    assert top < bottom  # the first row is on top


def test_points_are_the_medians_over_the_entries(reading):
    expected = [np.median(values) for values in reading.strengths["lr"].values()]
    assert medians(strengths_by_layer(reading, "lr")) == pytest.approx(expected)


def test_a_value_per_tensor_is_a_point_in_its_row(make_reading, drawn):
    figure = drawn(strengths_by_layer(make_reading({"lr": {"a.weight": 0.1, "a.bias": 0.3}}), "lr"))
    assert rows(figure) == ["a.weight", "a.bias"]
    assert medians(figure) == pytest.approx([0.1, 0.3])


def test_one_value_for_all_tensors_is_one_row(make_reading, drawn):
    figure = drawn(strengths_by_layer(make_reading({"lr": {"a.weight": 0.1, "a.bias": 0.1}}), "lr"))
    assert rows(figure) == ["all tensors"]
    assert medians(figure) == pytest.approx([0.1])


def test_the_title_says_what_is_fixed(reading, make_reading):
    fixed = make_reading({"l2": {"a.weight": 0.1}}, learned=("lr",))
    assert strengths_by_layer(fixed, "l2").axes[0].get_title(loc="left") == "L2 strength λ (fixed)"
    assert strengths_by_layer(reading, "lr").axes[0].get_title(loc="left") == "Learning rate α"


def test_an_unknown_quantity_is_refused_with_those_that_exist(reading):
    with pytest.raises(ConfigError, match=r"lr, l2.*'pull'"):
        strengths_by_layer(reading, "pull")


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": np.full((3, 4), 0.1)},
        {"w": np.array([[0.0, 0.0]]), "b": np.array([0.1, 0.0])},
        {"w": np.geomspace(1e-38, 1e38, 40).reshape(4, 10), "b": np.array([1e-45])},
        {"w": np.array([[np.inf, 0.1]]), "b": np.array([np.inf])},
        {f"block{k}.weight": np.full((4, 4), 0.1 + k) for k in range(60)},
        {"w": np.array([[0.1]])},
    ],
    ids=["all equal", "zeros", "extreme", "infinite", "many layers", "one entry"],
)
def test_edge_cases_are_drawn(make_reading, drawn, tensors):
    figure = drawn(strengths_by_layer(make_reading({"lr": tensors}), "lr"))
    assert rows(figure) == list(tensors)
    low, high = figure.axes[0].get_xlim()
    assert 0 < low < high < np.inf
    assert all(low <= median <= high for median in medians(figure))
