"""The four-block convolutional network of the few-shot literature."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

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
    module.add_module("channels_last", ChannelsLast())
    for i in range(BLOCKS):
        halve = max(height, width) > 1
        stride = 2 if halve and downsample == "stride" else 1
        # Batch normalisation subtracts whatever a bias would add.
        convolution = Convolution(size_in, channels, 3, stride=stride, padding=1, bias=norm != "batch")
        module.add_module(f"conv{i}", convolution)
        if norm != "none":
            module.add_module(f"norm{i}", _norm(norm, channels))
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
    return model_from(module, spec, transductive=norm == "batch")


class ChannelsLast(nn.Module):
    """[batch, channels, height, width] to [batch, height, width, channels], in which all layers work.

    Whole vectors of channels are what processors add, compare and normalise fastest, and what convolutions like best.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The view."""
        return x.movedim(1, -1)


class ChannelsFirst(nn.Module):
    """The inverse of `ChannelsLast`."""

    def forward(self, x: Tensor) -> Tensor:
        """The view."""
        return x.movedim(-1, 1)


class Convolution(nn.Conv2d):
    """A convolution of images [batch, height, width, channels]."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """[batch, height', width', out]."""
        if self.in_channels > 1:
            return super().forward(x.movedim(-1, 1)).movedim(1, -1)
        # Of one channel there is next to nothing to sum over; a matrix product is faster there.
        patches = self._patches(x)
        outputs = patches.flatten(0, 2) @ self.weight.flatten(1).mT
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs.unflatten(0, patches.shape[:3])

    def _patches(self, x: Tensor) -> Tensor:
        """What each output pixel sees of the channel, [batch, height', width', kernel size], in the weights' order."""
        a, b = self.kernel_size
        height, width = x.shape[1:3]
        padded = nn.functional.pad(x, (0, 0, b // 2, b // 2, a // 2, a // 2))
        rows, columns = self.stride
        shifts = [padded[:, i : i + height : rows, j : j + width : columns] for i in range(a) for j in range(b)]
        return torch.stack(shifts, -1).flatten(3)


class MaxPool(nn.Module):
    """The largest pixel of each window of images [batch, height, width, channels].

    A plain reduction over the pixels of a window: once compiled, several times as fast as max-pooling's bookkeeping of
    indices. Equally large pixels share its derivative. Rows and columns beyond the last whole window are left out.
    """

    def __init__(self, window: tuple[int, int]) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        """[batch, height', width', channels]."""
        a, b = self.window
        height, width = x.shape[1] // a, x.shape[2] // b
        whole = x[:, : height * a, : width * b]
        return whole.unflatten(2, (width, b)).unflatten(1, (height, a)).amax((2, 4))


class BatchNorm(nn.Module):
    """Batch normalisation by the batch's own statistics, with learned scale and shift, for [batch, *pixels, channels].

    Written with plain reductions: unlike the fused kernel they are fast under `vmap` and in second derivatives.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x, of the same shape."""
        variance, mean = torch.var_mean(x, tuple(range(x.dim() - 1)), correction=0)
        return (x - mean) * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias


class GroupNorm(nn.GroupNorm):
    """Normalisation of each image [batch, height, width, channels] over groups of channels."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalised x, of the same shape."""
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return BatchNorm(channels)
    return GroupNorm(channels // 8 if norm == "group" and channels % 8 == 0 else 1, channels)
