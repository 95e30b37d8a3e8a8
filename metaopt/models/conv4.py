"""The four-block convolutional network of the few-shot literature."""

from __future__ import annotations

import math

from torch import nn

from metaopt.models.layers import ChannelsFirst, ChannelsLast, Convolution, Downsample, MaxPool, Norm, Stack, image_norm
from metaopt.models.model import Model, check_images, model_from
from metaopt.types import TaskSpec

BLOCKS = 4


def conv4(task: TaskSpec, channels: int = 64, norm: Norm = "batch", downsample: Downsample = "pool") -> Model:
    """Four blocks of 3×3 convolution, normalisation, ReLU and halving, then one linear layer.

    The architecture of Vinyals et al., "Matching Networks for One Shot Learning" (2016); with `downsample="stride"`
    as Finn et al., "Model-Agnostic Meta-Learning" (2017), ran it on Omniglot. An image that has shrunk to one pixel
    is not halved again.

    Args:
        task: says the image's (channels, height, width) and the number of outputs.
        channels: channels of each block.
        norm: `batch` uses the batch's own statistics, in training and, unless others are given, in prediction
            (transductive); `layer` normalises each example over channels and pixels; `group` over groups of 8 channels
            (as `layer` where 8 does not divide `channels`); `none` leaves it out.
        downsample: `pool` halves by max-pooling, `stride` by a stride of 2 in the convolution.

    Raises:
        ConfigError: the inputs are not images.
    """
    size_in, height, width = check_images(task, "conv4")
    module = Stack()
    module.add_module("channels_last", ChannelsLast())
    for i in range(BLOCKS):
        halve = max(height, width) > 1
        stride = 2 if halve and downsample == "stride" else 1
        # Batch normalisation subtracts whatever a bias would add.
        module.add_module(f"conv{i}", Convolution(size_in, channels, 3, stride, bias=norm != "batch"))
        for layer in image_norm(norm, channels):
            module.add_module(f"norm{i}", layer)
        module.add_module(f"relu{i}", nn.ReLU())
        if halve and downsample == "pool":
            window = (min(2, height), min(2, width))
            module.add_module(f"pool{i}", MaxPool(window))
            height, width = height // window[0], width // window[1]
        elif halve:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        size_in = channels
    module.add_module("channels_first", ChannelsFirst())
    module.add_module("flatten", nn.Flatten())
    module.add_module("output", nn.Linear(channels * height * width, task.output_size))
    spec = {"name": "conv4", "channels": channels, "norm": norm, "downsample": downsample}
    return model_from(module, spec, transductive=norm == "batch", plain=True)
