import numpy as np
import pytest

from metaopt.report.curvature import curvature_figure


def pictures(figure):
    """The matrices that are shown, by panel, row after row."""
    return [[np.asarray(image.get_array()) for image in axes.get_images()] for axes in figure.axes]


def test_each_mode_of_each_tensor_has_a_picture(make_reading, drawn):
    random = np.random.default_rng(0)
    matrices = {"a.weight": tuple(random.normal(size=(n, n)) for n in (4, 3, 9)), "a.bias": (np.eye(4),)}
    figure = drawn(curvature_figure(make_reading({}, matrices=matrices)))
    shown = pictures(figure)
    for mode, matrix in enumerate(matrices["a.weight"]):
        np.testing.assert_array_equal(shown[mode][0], matrix)
    np.testing.assert_array_equal(shown[3][0], np.eye(4))
    assert shown[4:6] == [[], []], "a bias has one mode"
    assert [axes.get_title() for axes in figure.axes[:6]] == ["outputs", "inputs", "kernel", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[:6]] == ["a.weight", "", "", "a.bias", "", ""]


def test_without_matrices_there_is_no_figure(make_reading):
    assert curvature_figure(make_reading({"lr": {"w": 0.1}})) is None


@pytest.mark.parametrize(
    "matrices",
    [
        {"a": (np.zeros((1, 1)),)},
        {"a": (np.full((2, 2), np.nan),)},
        {f"block{k}.weight": (np.eye(3), np.eye(2)) for k in range(20)},
        {"a": (np.diag([1e30, -1e30, 1.0]),)},
    ],
    ids=["zero", "not finite", "many tensors", "extreme"],
)
def test_edge_cases_are_drawn(make_reading, drawn, matrices):
    assert drawn(curvature_figure(make_reading({}, matrices=matrices))) is not None
