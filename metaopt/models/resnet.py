"""A small residual network for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from metaopt.models.layers import (
    AcrossExamples,
    ChannelsLast,
    Convolution,
    Downsample,
    MaxPool,
    MeanPool,
    Norm,
    Stack,
    image_norm,
)
from metaopt.models.model import Model, check_images, model_from
from metaopt.types import TaskSpec


def resnet(
    task: TaskSpec,
    channels: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
    norm: Norm = "batch",
    downsample: Downsample = "stride",
) -> Model:
    """A 3×3 convolution, stages of residual blocks, the mean over the pixels, and one linear layer.

    The network that He et al., "Deep Residual Learning for Image Recognition" (2016), ran on CIFAR-10, with any number
    of stages: each but the first halves the image. A block is two 3×3 convolutions with normalisation, added to a
    shortcut, which is a 1×1 convolution where the shape changes; ReLU follows. An image that has shrunk to one pixel is
    not halved again.

    Args:
        task: says the image's (channels, height, width) and the number of outputs.
        channels: channels of each stage; at least one.
        blocks: residual blocks in each stage.
        norm: `batch` uses the batch's own statistics, in training and, unless others are given, in prediction
            (transductive); `layer` normalises each example over channels and pixels; `group` over groups of 8 channels
            (as `layer` where 8 does not divide them); `none` leaves it out.
        downsample: `stride` halves by a stride of 2 in a stage's first convolution and shortcut, `pool` by max-pooling
            before the stage.

    Raises:
        ConfigError: the inputs are not images.
    """
    size_in, height, width = check_images(task, "resnet")
    module = Stack()
    module.add_module("channels_last", ChannelsLast())
    _add_convolution(module, "", size_in, channels[0], 3, 1, norm)
    module.add_module("relu", nn.ReLU())
    size_in = channels[0]
    for i, size in enumerate(channels):
        stage = Stack()
        halve = i > 0 and max(height, width) > 1
        window = (min(2, height), min(2, width))
        if halve and downsample == "pool":
            stage.add_module("pool", MaxPool(window))
            height, width = height // window[0], width // window[1]
        elif halve:
            height, width = -(-height // 2), -(-width // 2)
        for j in range(blocks):
            stride = 2 if halve and downsample == "stride" and j == 0 else 1
            stage.add_module(f"block{j}", Residual(size_in, size, stride, norm))
            size_in = size
        module.add_module(f"stage{i}", stage)
    module.add_module("pool", MeanPool())
    module.add_module("output", nn.Linear(size_in, task.output_size))
    spec = {"name": "resnet", "channels": list(channels), "blocks": blocks, "norm": norm, "downsample": downsample}
    return model_from(module, spec, transductive=norm == "batch", plain=True)


class Residual(nn.Module, AcrossExamples):
    """Two convolutions beside a shortcut, for images [batch, height, width, channels]."""

    def __init__(self, size_in: int, size_out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.body = Stack()
        _add_convolution(self.body, "0", size_in, size_out, 3, stride, norm)
        self.body.add_module("relu", nn.ReLU())
        _add_convolution(self.body, "1", size_out, size_out, 3, 1, norm)
        self.shortcut = Stack()
        if stride > 1 or size_in != size_out:
            _add_convolution(self.shortcut, "", size_in, size_out, 1, stride, norm)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, reference: int | None = None) -> Tensor:
        """[batch, height', width', out]."""
        return self.relu(self.body(x, reference) + self.shortcut(x, reference))


def _add_convolution(
    stack: Stack, suffix: str, size_in: int, size_out: int, kernel: int, stride: int, norm: Norm
) -> None:
    # Batch normalisation subtracts whatever a bias would add.
    stack.add_module(f"conv{suffix}", Convolution(size_in, size_out, kernel, stride, bias=norm != "batch"))
    for layer in image_norm(norm, size_out):
        stack.add_module(f"norm{suffix}", layer)
