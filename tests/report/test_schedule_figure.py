import numpy as np
import pytest

from metaopt.report.schedule import schedule_figure


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")}


def test_each_schedule_is_a_line(make_reading, drawn):
    schedule = {"a.weight": [1.0, 0.5, 0.2], "a.bias": [2.0, 1.0, 0.1]}
    figure = drawn(schedule_figure(make_reading({}, schedule)))
    assert list(lines(figure)) == list(schedule)
    for name, line in lines(figure).items():
        np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
        np.testing.assert_allclose(line.get_ydata(), schedule[name], rtol=1e-6)


def test_one_schedule_for_all_says_so(reading):
    assert list(lines(schedule_figure(reading))) == ["all tensors"]


def test_without_a_schedule_there_is_no_figure(make_reading):
    assert schedule_figure(make_reading({"lr": {"w": 0.1}})) is None


@pytest.mark.parametrize(
    "schedule",
    [
        {"": [1.0]},
        {"": np.ones(1000)},
        {"a": np.geomspace(1e-30, 1e30, 50), "b": np.ones(50)},
        {f"block{k}.weight": np.linspace(1.0, 0.1 * k, 5) for k in range(40)},
        {f"block{k}.weight": np.ones(5) for k in range(12)},
        {"": [0.0, 0.0]},
        {"": [1.0, np.inf]},
    ],
    ids=["horizon 1", "all equal", "extreme", "many layers", "equal ends", "zero", "infinite"],
)
def test_edge_cases_are_drawn(make_reading, drawn, schedule):
    figure = drawn(schedule_figure(make_reading({}, schedule)))
    assert len(lines(figure)) == len(schedule)
