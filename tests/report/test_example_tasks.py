import numpy as np
import pytest
import torch

from metaopt.report.example_tasks import MOST_IMAGES, example_tasks
from metaopt.tasks.images.digits import Digits
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.types import SPLITS, Batch, Kind, TaskBatch, TaskSpec


def drawn(family, count=2):
    return {split: family.sample(split, count, torch.Generator().manual_seed(i)) for i, split in enumerate(SPLITS)}


def rendered(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_images_are_shown_a_row_for_each_class():
    family = Digits(n_way=3, support=12)
    tasks = drawn(family)
    figure = example_tasks(tasks, family.spec)
    assert len(figure.axes) == 6
    sheet = figure.axes[0].images[0].get_array()
    assert sheet.shape == (3 * 9, MOST_IMAGES * 9)
    first_of_second_class = tasks["meta_train"].support.x[0, 12, 0].numpy()
    np.testing.assert_allclose(sheet[9:17, :8], first_of_second_class)


def test_colours_stay_colours():
    spec = TaskSpec(Kind.classification, (3, 4, 4), 2)
    x = torch.zeros(1, 2, 3, 4, 4)
    x[:, :, 0] = 1.0
    batch = Batch(x, torch.tensor([[0, 1]]))
    figure = example_tasks(dict.fromkeys(SPLITS, TaskBatch(batch, batch, batch)), spec)
    assert figure.axes[0].images[0].get_array()[0, 0].tolist() == [1.0, 0.0, 0.0]


def test_a_function_of_one_input_is_a_curve_with_its_support_points():
    family = Sinusoid()
    tasks = drawn(family)
    axes = example_tasks(tasks, family.spec).axes[0]
    assert (np.diff(axes.lines[0].get_xdata()) >= 0).all()
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 0], tasks["meta_train"].support.x[0, :, 0])


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("columns", [1, 5])
def test_tables_are_shown_in_a_plane_whatever_they_lack(kind, columns):
    spec = TaskSpec(kind, (columns + 2,), 4 if kind is Kind.classification else 1, padded=True)
    x = torch.randn(2, 9, columns + 2)
    x[..., columns:] = torch.nan
    y = torch.full((2, 9, 4), -1)
    y[..., :2] = torch.eye(2, dtype=torch.int64)[torch.arange(9) % 2]
    batch = Batch(x, y if kind is Kind.classification else torch.randn(2, 9, 1))
    figure = example_tasks(dict.fromkeys(SPLITS, TaskBatch(batch, batch, batch)), spec, {"meta_test": ["iris", "wine"]})
    points = figure.axes[0].collections[0].get_offsets()
    assert np.isfinite(points).all()
    assert figure.axes[0].get_title(loc="left") == "meta-train"
    assert figure.axes[4].get_title(loc="left") == "meta-test · iris"
    assert rendered(figure).std() > 0
