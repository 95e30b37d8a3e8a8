import itertools

import pytest
import torch
import torch.nn.functional as F

from metaopt.errors import ConfigError
from metaopt.models.conv4 import conv4
from metaopt.types import Kind, TaskSpec

NORMS = ("batch", "layer", "group", "none")
norms = pytest.mark.parametrize("norm", NORMS)
downsamples = pytest.mark.parametrize("downsample", ["pool", "stride"])


def images(channels=1, height=8, width=8, classes=5):
    return TaskSpec(Kind.classification, (channels, height, width), classes)


def random_params(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64) + (name[:4] == "norm")
        for name, shape in model.shapes.items()
    }


def random_images(n, shape, seed=1):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@norms
def test_parameters_are_named_and_shaped_in_the_order_of_the_forward_pass(norm):
    shapes = conv4(images(3, 28, 28), channels=6, norm=norm).shapes
    blocks = []
    for i in range(4):
        blocks.append((f"conv{i}.weight", (6, 6 if i else 3, 3, 3)))
        if norm != "batch":
            blocks.append((f"conv{i}.bias", (6,)))
        if norm != "none":
            blocks += [(f"norm{i}.weight", (6,)), (f"norm{i}.bias", (6,))]
    assert list(shapes.items()) == [*blocks, ("output.weight", (5, 6)), ("output.bias", (5,))]


def test_64_channels_on_omniglot_are_the_network_of_the_literature():
    # Vinyals et al.: 28 -> 14 -> 7 -> 3 -> 1, so that 64 features reach the linear layer.
    sizes = {name: shape.numel() for name, shape in conv4(images(1, 28, 28)).shapes.items()}
    assert sum(sizes.values()) == 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64 + 64 * 5 + 5


@downsamples
@norms
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (1, 1), (1, 9), (9, 1), (2, 5)])
def test_images_of_any_size_go_through(size, norm, downsample):
    model = conv4(images(2, *size), channels=3, norm=norm, downsample=downsample)
    out = model.apply(random_params(model), random_images(4, (2, *size)))
    assert out.shape == (4, 5)
    assert out.isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@downsamples
def test_the_forward_pass_is_what_it_says(downsample, channels):
    """Written out with functions, with torch's own batch normalisation."""
    model = conv4(images(channels, 20, 12), channels=3, downsample=downsample)
    params, h = random_params(model), random_images(6, (channels, 20, 12))
    expected = h
    for i in range(4):
        stride = 2 if downsample == "stride" and max(expected.shape[2:]) > 1 else 1
        expected = F.conv2d(expected, params[f"conv{i}.weight"], stride=stride, padding=1)
        expected = F.batch_norm(
            expected, None, None, params[f"norm{i}.weight"], params[f"norm{i}.bias"], training=True
        ).relu()
        if downsample == "pool":
            height, width = expected.shape[2:]
            expected = F.max_pool2d(expected, (min(2, height), min(2, width)))
    expected = expected.flatten(1) @ params["output.weight"].T + params["output.bias"]
    torch.testing.assert_close(model.apply(params, h), expected)


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (32, 4), (16, 2), (8, 1), (3, 1)])
def test_group_normalisation_has_groups_of_eight_channels(channels, groups):
    assert conv4(images(), channels, norm="group").module.norm0.num_groups == groups
    assert conv4(images(), channels, norm="layer").module.norm0.num_groups == 1


@downsamples
@norms
@pytest.mark.parametrize("channels", [3, 8, 16])
def test_no_normalisation_hides_the_image_from_the_output(channels, norm, downsample):
    # Groups of one channel would: in the last block of small images, where a channel is one pixel.
    model = conv4(images(), channels, norm, downsample)
    out = model.apply(random_params(model), random_images(4, (1, 8, 8)))
    for one, other in itertools.combinations(out, 2):
        assert not torch.allclose(one, other, atol=1e-6)


@downsamples
@norms
def test_it_says_truly_whether_examples_see_each_other(norm, downsample):
    model = conv4(images(), channels=8, norm=norm, downsample=downsample)
    params, x = random_params(model), random_images(6, (1, 8, 8))
    x_other = torch.cat([x[:3], 2 * x[3:] + 1])
    same = torch.allclose(model.apply(params, x)[:3], model.apply(params, x_other)[:3], rtol=1e-9, atol=1e-12)
    assert model.transductive == (not same)


@pytest.mark.parametrize("shape", [(), (64,), (8, 8), (1, 1, 8, 8)])
def test_inputs_that_are_no_images_are_refused(shape):
    with pytest.raises(ConfigError, match=r"needs images.*use model=mlp"):
        conv4(TaskSpec(Kind.classification, shape, 5))
