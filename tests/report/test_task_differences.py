import numpy as np
import pytest
from matplotlib.colors import same_color

from metaopt.report.differences import task_differences
from metaopt.report.style import BLUE, RED


def points(figure, colour):
    """Positions of all points of a colour, [points, 2]."""
    clouds = [cloud for cloud in figure.axes[0].collections if same_color(cloud.get_facecolor()[0][:3], colour)]
    return np.concatenate([np.empty((0, 2)), *(cloud.get_offsets() for cloud in clouds)])


def test_every_task_is_a_point_at_its_difference(comparison, drawn):
    figure = drawn(task_differences(comparison))
    policy = comparison.methods["policy"].loss
    expected = np.concatenate([comparison.methods[name].loss - policy for name in ("sgd", "tuned")])
    found = np.concatenate([points(figure, BLUE), points(figure, RED)])
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(expected))
    assert (points(figure, BLUE)[:, 0] > 0).all()
    assert (points(figure, RED)[:, 0] <= 0).all()


def test_rows_are_the_baselines_from_the_top_with_their_win_rates(comparison, drawn):
    figure = drawn(task_differences(comparison))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sgd", "tuned"]
    assert axes.yaxis_inverted()
    wins = [np.mean(comparison.methods[n].loss > comparison.methods["policy"].loss) for n in ("sgd", "tuned")]
    shares = [text.get_text() for text in axes.texts]
    assert shares[0] == "policy wins\n100 % of tasks"
    assert shares[1] == f"policy wins\n{100 * wins[1]:.0f} % of tasks"


def test_the_marker_is_the_mean_difference(comparison):
    axes = task_differences(comparison).axes[0]
    means = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]
    policy = comparison.methods["policy"].loss
    assert means == pytest.approx([np.mean(comparison.methods[name].loss - policy) for name in ("sgd", "tuned")])


def test_clouds_stay_in_their_rows(make_comparison, drawn):
    losses = {"policy": np.zeros(500), "same": np.zeros(500), "other": np.random.default_rng(0).normal(size=500)}
    figure = drawn(task_differences(make_comparison(losses)))
    heights = np.concatenate([points(figure, colour)[:, 1] for colour in (BLUE, RED)])
    assert np.abs(heights - heights.round()).max() < 0.5
    assert (np.bincount(heights.round().astype(int)) == 500).all()


def test_a_few_far_tasks_do_not_squeeze_the_others(make_comparison):
    near = np.linspace(-0.1, 0.1, 50)
    far = np.append(near, 1e6)
    assert task_differences(make_comparison({"policy": 0 * near, "sgd": near})).axes[0].get_xscale() == "linear"
    assert task_differences(make_comparison({"policy": 0 * far, "sgd": far})).axes[0].get_xscale() == "symlog"


@pytest.mark.parametrize(
    "losses",
    [
        {"policy": [0.5], "sgd": [0.4]},
        {"policy": [0.5, 0.5], "sgd": [0.5, 0.5]},
        {"policy": [0.5, 0.6]},
        {"policy": [1e-12, 1e-11, 0.1], "sgd": [1e30, 1e37, 0.2]},
        {f"method{k}" if k else "policy": [0.1 * k, 0.2] for k in range(12)},
    ],
    ids=["one task", "all equal", "no baseline", "extreme", "many methods"],
)
def test_edge_cases_are_drawn(make_comparison, drawn, losses):
    figure = drawn(task_differences(make_comparison(losses)))
    assert len(figure.axes[0].get_yticklabels()) == len(losses) - 1
    drawn_points = len(points(figure, BLUE)) + len(points(figure, RED))
    assert drawn_points == sum(len(loss) for name, loss in losses.items() if name != "policy")
