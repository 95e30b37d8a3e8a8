"""The four-block convolutional network of the few-shot literature."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from metaopt.errors import ConfigError
from metaopt.models.model import Model, model_from
from metaopt.types import TaskSpec

Norm = Literal["batch", "layer", "group", "none"]
Downsample = Literal["pool", "stride"]
BLOCKS = 4


def conv4(task: TaskSpec, channels: int = 64, norm: Norm = "batch", downsample: Downsample = "pool") -> Model:
    """Four blocks of 3×3 convolution, normalisation, ReLU and halving, then one linear layer.

    The architecture of Vinyals et al., "Matching Networks for One Shot Learning" (2016); with `downsample="stride"`
    as Finn et al., "Model-Agnostic Meta-Learning" (2017), ran it on Omniglot. An image that has shrunk to one pixel
    is not halved again.

    Args:
        task: says the image's (channels, height, width) and the number of outputs.
        channels: channels of each block.
        norm: `batch` uses the batch's own statistics, in training and prediction alike (transductive); `layer`
            normalises each example over channels and pixels; `group` over groups of 8 channels (as `layer` where 8
            does not divide `channels`); `none` leaves it out.
        downsample: `pool` halves by max-pooling, `stride` by a stride of 2 in the convolution.

    Raises:
        ConfigError: the inputs are not images.
    """
    if len(task.input_shape) != 3:
        raise ConfigError(
            f"model=conv4 needs images (channels, height, width), but the tasks have inputs of shape "
            f"{task.input_shape}; use model=mlp"
        )
    size_in, height, width = task.input_shape
    module = nn.Sequential()
    for i in range(BLOCKS):
        halve = max(height, width) > 1
        stride = 2 if halve and downsample == "stride" else 1
        # Batch normalisation subtracts whatever a bias would add.
        convolution = nn.Conv2d(size_in, channels, 3, stride=stride, padding=1, bias=norm != "batch")
        module.add_module(f"conv{i}", convolution)
        if norm != "none":
            module.add_module(f"norm{i}", _norm(norm, channels))
        module.add_module(f"relu{i}", nn.ReLU())
        if halve and downsample == "pool":
            window = (min(2, height), min(2, width))
            module.add_module(f"pool{i}", nn.MaxPool2d(window))
            height, width = height // window[0], width // window[1]
        elif halve:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        size_in = channels
    module.add_module("flatten", nn.Flatten())
    module.add_module("output", nn.Linear(channels * height * width, task.output_size))
    spec = {"name": "conv4", "channels": channels, "norm": norm, "downsample": downsample}
    return model_from(module, spec, transductive=norm == "batch")


class BatchNorm(nn.Module):
    """Batch normalisation by the batch's own statistics, with learned scale and shift, for [batch, channels, h, w].

    Written with plain reductions: unlike the fused kernel they are fast under `vmap` and in second derivatives.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised x, of the same shape."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        scale = self.weight[:, None, None] * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale + self.bias[:, None, None]


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return BatchNorm(channels)
    return nn.GroupNorm(channels // 8 if norm == "group" and channels % 8 == 0 else 1, channels)
