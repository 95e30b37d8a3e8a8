import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metaopt.errors import TaskError
from metaopt.tasks.images.image_data import Labelled, Look, check_look, to_bank, treated


def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.none() | st.integers(1, 4))
def test_images_are_sorted_by_class_and_the_first_of_each_are_kept(labels, most):
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    bank = to_bank(Labelled(images, torch.tensor(labels), tuple("abcde")), Look(max_per_class=most))
    expected = [[i for i, label in enumerate(labels) if label == c][:most] for c in range(5)]
    assert bank.counts.tolist() == [len(group) for group in expected]
    assert bank.images.flatten().tolist() == [i for group in expected for i in group]


def test_grey_is_pillows_luma():
    images = noise(25_000, 3, 4, 5)
    for i in (0, 12_345, 24_999):  # in different chunks
        expected = np.asarray(Image.fromarray(images[i].permute(1, 2, 0).numpy()).convert("L"))
        assert torch.equal(treated(images, Look(greyscale=True))[i, 0], torch.tensor(expected))
    green = torch.tensor([0, 255, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert treated(green, Look(greyscale=True)).item() == 150
    assert torch.equal(treated(images[:, :1], Look(greyscale=True)), images[:, :1])


@pytest.mark.parametrize(("height", "width", "size"), [(28, 28, 8), (28, 28, 84), (32, 32, 28), (40, 20, 16)])
def test_resizing_is_pillows_bilinear_filter(height, width, size):
    images = noise(3, 3, height, width)
    small = treated(images, Look(size=size))
    assert (small.shape, small.dtype) == ((3, 3, size, size), torch.uint8)
    for image, ours in zip(images, small, strict=True):
        whole = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BILINEAR)
        theirs = torch.tensor(np.asarray(whole)).permute(2, 0, 1)
        assert (ours.int() - theirs.int()).abs().max() <= 1


def test_shrinking_averages_what_falls_together():
    checkers = (torch.arange(28).view(-1, 1) + torch.arange(28)).remainder(2).mul(255).to(torch.uint8)
    small = treated(checkers.view(1, 1, 28, 28), Look(size=7))
    assert (small.int() - 127).abs().max() < 25, "aliased: black and white squares do not become grey"


def test_what_has_the_size_is_left_as_it_is():
    images = noise(2, 3, 9, 9)
    assert treated(images, Look(size=9)) is images
    assert treated(images, Look()) is images


@pytest.mark.parametrize("key", ["size", "max_per_class"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_look_that_is_not_positive_is_refused(key, value):
    with pytest.raises(TaskError, match=rf"tasks\.{key} must be 1 or more, or null, but is {value}"):
        check_look("fashion_mnist", Look(**{key: value}))
