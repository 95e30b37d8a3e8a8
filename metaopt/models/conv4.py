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
        window = (min(2, height), min(2, width))
        in_windows = downsample == "pool" and halve and height % window[0] == 0 and width % window[1] == 0
        if in_windows:
            module.add_module(f"windows{i}", Windows(window))
        if norm != "none":
            module.add_module(f"norm{i}", _norm(norm, channels))
        module.add_module(f"relu{i}", nn.ReLU())
        if halve and downsample == "pool":
            module.add_module(f"pool{i}", WindowMaximum() if in_windows else nn.MaxPool2d(window))
            height, width = height // window[0], width // window[1]
        elif halve:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        size_in = channels
    module.add_module("flatten", nn.Flatten())
    module.add_module("output", nn.Linear(channels * height * width, task.output_size))
    spec = {"name": "conv4", "channels": channels, "norm": norm, "downsample": downsample}
    return model_from(module, spec, transductive=norm == "batch")


class Windows(nn.Module):
    """Views images [batch, channels, h, w] as windows, [batch, channels, h/a, a, w/b, b], which must fit.

    What follows works pixel by pixel or channel by channel, and so does not mind; and pooling, with its derivatives,
    becomes a plain reduction, several times as fast as max-pooling's bookkeeping of indices once it is compiled.
    """

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The view."""
        height, width = self.window
        return x.unflatten(3, (-1, width)).unflatten(2, (-1, height))


class WindowMaximum(nn.Module):
    """The largest pixel of each window of [batch, channels, h, a, w, b]; equally large ones share its derivative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, h, w]."""
        return x.amax((3, 5))


class BatchNorm(nn.Module):
    """Batch normalisation by the batch's own statistics, with learned scale and shift, for [batch, channels, *pixels].

    Written with plain reductions: unlike the fused kernel they are fast under `vmap` and in second derivatives.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised x, of the same shape."""
        others = [dim for dim in range(x.dim()) if dim != 1]
        variance, mean = torch.var_mean(x, others, correction=0, keepdim=True)
        shape = (-1, *[1] * (x.dim() - 2))
        scale = self.weight.view(shape) * torch.rsqrt(variance + self.eps)
        return (x - mean) * scale + self.bias.view(shape)


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return BatchNorm(channels)
    return nn.GroupNorm(channels // 8 if norm == "group" and channels % 8 == 0 else 1, channels)
