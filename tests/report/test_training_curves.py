import numpy as np
import pytest

from metaopt.report.figures import save_figure
from metaopt.report.training import meta_training_curves


def train(iteration, loss, dropped=0):
    return {"kind": "meta_train", "iteration": iteration, "loss": loss, "dropped": dropped}


def validation(iteration, loss):
    return {"kind": "meta_validation", "iteration": iteration, "loss": loss}


def line(figure, start):
    return next(line for line in figure.axes[0].get_lines() if line.get_label().startswith(start))


@pytest.fixture
def records():
    losses = 0.5 + np.exp(-np.arange(100) / 20)
    rows = [validation(0, 1.8)]
    for iteration, loss in enumerate(losses, start=1):
        rows.append(train(iteration, float(loss)))
        if iteration % 25 == 0:
            rows.append(validation(iteration, 0.6 if iteration == 75 else 0.9))
    return rows


def test_validation_losses_are_drawn_and_the_lowest_is_marked(records, drawn):
    figure = drawn(meta_training_curves(records))
    np.testing.assert_array_equal(line(figure, "meta-validation").get_xdata(), [0, 25, 50, 75, 100])
    np.testing.assert_array_equal(line(figure, "meta-validation").get_ydata(), [1.8, 0.9, 0.9, 0.6, 0.9])
    best = line(figure, "best")
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (75, 0.6)
    assert best.get_label() == "best: 0.600 at iteration 75"


def test_smoothing_neither_shifts_nor_scales(records):
    figure = meta_training_curves(records)
    raw, smooth = line(figure, "_raw").get_ydata(), line(figure, "meta-train").get_ydata()
    np.testing.assert_allclose(smooth[10:-10], raw[10:-10], rtol=0.02)
    assert raw.min() <= smooth.min() <= smooth.max() <= raw.max()


def test_a_constant_loss_stays_constant_up_to_the_ends():
    figure = meta_training_curves([train(iteration, 0.7) for iteration in range(1, 200)])
    np.testing.assert_allclose(line(figure, "meta-train").get_ydata(), 0.7)


def test_iterations_that_a_resumed_run_repeats_count_once_and_in_order(records):
    repeated = [*records, train(60, 5.0), validation(75, 0.2)]
    figure = meta_training_curves(repeated)
    raw = line(figure, "_raw")
    np.testing.assert_array_equal(raw.get_xdata(), np.arange(1, 101))
    assert raw.get_ydata()[59] == 5.0
    assert line(figure, "best").get_ydata()[0] == 0.2


def test_dropped_tasks_are_counted_and_marked_where_they_were(records, drawn):
    figure = drawn(meta_training_curves([*records, train(30, None, dropped=16), train(40, 0.7, dropped=2)]))
    marks = line(figure, "18 tasks dropped")
    assert list(marks.get_xdata()) == [30, 40]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [validation(0, 1.0)],
        [train(1, 1.0)],
        [train(1, None, dropped=16)],
        [train(k, 10.0 ** (-k)) for k in range(1, 30)],
        [train(k, float(k % 2)) for k in range(1, 10)],
        [{"kind": "note", "text": "something else"}],
    ],
    ids=["nothing", "one validation", "one iteration", "all dropped", "decades", "zeros", "foreign"],
)
def test_edge_cases_are_drawn(rows, drawn):
    drawn(meta_training_curves(rows))


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    first, second = (save_figure(meta_training_curves(records), tmp_path / f"{i}.png") for i in range(2))
    assert first.read_bytes() == second.read_bytes()
