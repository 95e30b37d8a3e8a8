import numpy as np
import pytest

from metaopt.report.first_layer import first_layer_image


def pictures(figure):
    """What the panels show as a person sees it: the first row is the one on top."""
    shown = []
    for axes in figure.axes:
        for image in axes.get_images():
            left, right, bottom, top = image.get_extent()
            assert left < right
            assert bottom > top  # the array's first row is drawn on top
            assert axes.get_ylim()[0] > axes.get_ylim()[1]
            shown.append(np.asarray(image.get_array()))
    return shown


def test_pixels_are_laid_out_as_in_the_input(make_reading, drawn):
    # Height and width differ, so that a transposed picture shows.
    image = np.geomspace(0.01, 1.0, 2 * 3 * 5).reshape(2, 3, 5)
    weights = np.stack([image.reshape(-1), 4 * image.reshape(-1)])
    figure = drawn(first_layer_image(make_reading({"lr": {"w": weights}}, input_shape=(2, 3, 5)), "lr"))
    found = pictures(figure)
    assert len(found) == 2
    np.testing.assert_allclose(found, 2 * image, rtol=1e-5)  # the geometric mean over the units


def test_many_channels_make_one_picture(make_reading, drawn):
    weights = np.full((4, 8 * 3 * 5), 0.1)
    figure = drawn(first_layer_image(make_reading({"lr": {"w": weights}}, input_shape=(8, 3, 5)), "lr"))
    assert [picture.shape for picture in pictures(figure)] == [(3, 5)]


def test_a_convolution_shows_its_kernel(make_reading, drawn):
    kernel = np.geomspace(0.01, 1.0, 6).reshape(2, 3)
    weights = np.broadcast_to(kernel, (4, 1, 2, 3))
    figure = drawn(first_layer_image(make_reading({"lr": {"conv.weight": weights}}, input_shape=(1, 28, 28)), "lr"))
    np.testing.assert_allclose(pictures(figure), [kernel], rtol=1e-5)
    assert "conv.weight" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("tensors", "input_shape"),
    [
        ({"w": np.full((2, 4), 0.1)}, (4,)),
        ({"w": np.full((2, 5), 0.1)}, (1, 2, 2)),
        ({"w": np.array(0.1)}, (1, 2, 2)),
        ({"w": np.zeros((2, 4))}, (1, 2, 2)),
        ({"w": np.full((2, 3, 1, 1), 0.1)}, (3, 4, 4)),
    ],
    ids=["no image", "another layer", "one value per tensor", "zeros", "kernel of one pixel"],
)
def test_what_is_no_picture_is_not_drawn(make_reading, tensors, input_shape):
    assert first_layer_image(make_reading({"lr": tensors}, input_shape=input_shape), "lr") is None


def test_a_quantity_that_is_off_is_not_drawn(reading):
    assert first_layer_image(reading, "pull") is None


@pytest.mark.parametrize("values", [np.full(4, 0.1), np.geomspace(1e-38, 1e38, 4), np.array([1.0, 1.0, 1.0, np.inf])])
def test_edge_cases_are_drawn_or_left_out(make_reading, drawn, values):
    figure = first_layer_image(make_reading({"lr": {"w": values[None]}}, input_shape=(1, 2, 2)), "lr")
    assert (figure is None) == (not np.isfinite(values).all())
    if figure is not None:
        drawn(figure)
