import pytest
import torch
import torch.nn.functional as F

from metaopt.errors import ConfigError
from metaopt.models.layers import NORMS
from metaopt.models.resnet import resnet
from metaopt.types import Kind, TaskSpec

norms = pytest.mark.parametrize("norm", NORMS)
downsamples = pytest.mark.parametrize("downsample", ["pool", "stride"])


def images(channels=1, height=8, width=8, classes=5):
    return TaskSpec(Kind.classification, (channels, height, width), classes)


def random_params(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64) + ("norm" in name)
        for name, shape in model.shapes.items()
    }


def random_images(n, shape, seed=1):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@norms
def test_parameters_are_named_and_shaped_in_the_order_of_the_forward_pass(norm):
    def convolution(prefix, suffix, *shape):
        yield f"{prefix}conv{suffix}.weight", shape
        if norm != "batch":
            yield f"{prefix}conv{suffix}.bias", shape[:1]
        if norm != "none":
            yield f"{prefix}norm{suffix}.weight", shape[:1]
            yield f"{prefix}norm{suffix}.bias", shape[:1]

    expected = list(convolution("", "", 2, 3, 3, 3))
    size_in = 2
    for stage, size in enumerate((2, 4)):
        for block in range(2):
            prefix = f"stage{stage}.block{block}."
            expected += convolution(prefix + "body.", "0", size, size_in, 3, 3)
            expected += convolution(prefix + "body.", "1", size, size, 3, 3)
            if size_in != size:
                expected += convolution(prefix + "shortcut.", "", size, size_in, 1, 1)
            size_in = size
    expected += [("output.weight", (5, 4)), ("output.bias", (5,))]
    assert list(resnet(images(3), (2, 4), 2, norm).shapes.items()) == expected


def test_three_blocks_of_16_32_and_64_channels_are_the_smallest_network_of_the_paper():
    # 20 layers: one convolution, 3 stages of 3 blocks of 2, and the linear one; the paper gives 0.27 M parameters.
    model = resnet(images(3, 32, 32, 10), blocks=3)
    convolutions = [name for name in model.shapes if "conv" in name and "shortcut" not in name]
    assert len(convolutions) + 1 == 20
    assert 0.27e6 < sum(shape.numel() for shape in model.shapes.values()) < 0.28e6


@downsamples
@norms
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (1, 1), (1, 9), (9, 1), (2, 5)])
def test_images_of_any_size_go_through(size, norm, downsample):
    model = resnet(images(2, *size), (2, 3, 3, 3), 1, norm, downsample)
    out = model.apply(random_params(model), random_images(4, (2, *size)))
    assert out.shape == (4, 5)
    assert out.isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@downsamples
def test_the_forward_pass_is_what_it_says(downsample, channels):
    """Written out with functions, with torch's own batch normalisation."""
    model = resnet(images(channels, 12, 10), (3, 4), 2, downsample=downsample)
    params, x = random_params(model), random_images(6, (channels, 12, 10))

    def convolution(h, conv, norm, stride=1):
        weight = params[f"{conv}.weight"]
        h = F.conv2d(h, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(h, None, None, params[f"{norm}.weight"], params[f"{norm}.bias"], training=True)

    h = convolution(x, "conv", "norm").relu()
    for stage in range(2):
        if stage and downsample == "pool":
            h = F.max_pool2d(h, 2)
        for block in range(2):
            stride = 2 if stage and not block and downsample == "stride" else 1
            at = f"stage{stage}.block{block}"
            body = convolution(h, f"{at}.body.conv0", f"{at}.body.norm0", stride).relu()
            body = convolution(body, f"{at}.body.conv1", f"{at}.body.norm1")
            if f"{at}.shortcut.conv.weight" in params:
                h = convolution(h, f"{at}.shortcut.conv", f"{at}.shortcut.norm", stride)
            h = (body + h).relu()
    expected = h.mean((2, 3)) @ params["output.weight"].T + params["output.bias"]
    torch.testing.assert_close(model.apply(params, x), expected)


@pytest.mark.parametrize("shape", [(), (64,), (8, 8), (1, 1, 8, 8)])
def test_inputs_that_are_no_images_are_refused(shape):
    with pytest.raises(ConfigError, match=r"model=resnet needs images.*use model=mlp"):
        resnet(TaskSpec(Kind.classification, shape, 5))


def test_the_spec_tells_models_apart():
    assert resnet(images(), (4, 8), 2, "layer", "pool").spec == {
        "name": "resnet",
        "channels": [4, 8],
        "blocks": 2,
        "norm": "layer",
        "downsample": "pool",
    }
