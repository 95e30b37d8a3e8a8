"""Layers of which several models are made.

Images are [batch, height, width, channels] inside the models: whole vectors of channels are what processors add,
compare and normalise fastest, and what convolutions like best.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "layer", "group", "none"]
NORMS: tuple[Norm, ...] = ("batch", "layer", "group", "none")
Downsample = Literal["pool", "stride"]
DOWNSAMPLES: tuple[Downsample, ...] = ("pool", "stride")


class AcrossExamples:
    """A layer that looks at several examples at once, or one made of such layers.

    Its `forward` takes, after x, how many of the first examples statistics are taken over; None: all of them.
    """


class Stack(nn.Sequential, AcrossExamples):
    """Layers one after the other; those that look at several examples are told at which."""

    def forward(self, x: Tensor, reference: int | None = None) -> Tensor:  # type: ignore[override]
        """The last layer's output."""
        for layer in self:
            x = layer(x, reference) if isinstance(layer, AcrossExamples) else layer(x)
        return x


class ChannelsLast(nn.Module):
    """[batch, channels, height, width] to [batch, height, width, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        """The view."""
        return x.movedim(1, -1)


class ChannelsFirst(nn.Module):
    """The inverse of `ChannelsLast`."""

    def forward(self, x: Tensor) -> Tensor:
        """The view."""
        return x.movedim(-1, 1)


class Linear(nn.Linear):
    """A linear map of the last dimension of [batch, *, in].

    All vectors go into one matrix product, also under `vmap` over weights, which would otherwise make a small one for
    each example.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """[batch, *, out]."""
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


class Convolution(nn.Conv2d):
    """A convolution of images [batch, height, width, channels] with a kernel of odd size, padded by half of it."""

    def __init__(self, size_in: int, size_out: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__(size_in, size_out, kernel, stride=stride, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """[batch, height', width', out]."""
        # Of one channel, or of one pixel, there is next to nothing to sum over; a matrix product is faster there. And
        # tasks side by side make a grouped convolution, which GPUs are slow at: some 7 times slower with 64 channels.
        if x.is_cuda or self.in_channels == 1 or self.kernel_size == (1, 1):
            return self.as_product(x)
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)

    def as_product(self, x: Tensor) -> Tensor:
        """The same as one matrix product, with what each output pixel sees as the rows of the one matrix."""
        patches = self._patches(x)
        outputs = patches.flatten(0, 2) @ self.weight.flatten(1).mT
        outputs = outputs if self.bias is None else outputs + self.bias
        return outputs.unflatten(0, patches.shape[:3])

    def _patches(self, x: Tensor) -> Tensor:
        """What each output pixel sees, [batch, height', width', channels * kernel size], in the weights' order."""
        a, b = self.kernel_size
        height, width = x.shape[1:3]
        rows, columns = self.stride
        if (a, b) == (1, 1):
            return x[:, ::rows, ::columns]
        padded = nn.functional.pad(x, (0, 0, b // 2, b // 2, a // 2, a // 2))
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


class MeanPool(nn.Module):
    """The mean over the pixels of images [batch, height, width, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels]."""
        return x.mean((1, 2))


class BatchNorm(nn.Module, AcrossExamples):
    """Batch normalisation with learned scale and shift, for [batch, *pixels, channels].

    Written with plain reductions: unlike the fused kernel they are fast under `vmap` and in second derivatives. It
    keeps no running statistics: these would be state, and belong to another task as soon as there are several.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, reference: int | None = None) -> Tensor:
        """Normalised x, of the same shape, by the statistics of its first `reference` examples; None: of all."""
        over = x if reference is None else x[:reference]
        variance, mean = torch.var_mean(over, tuple(range(x.dim() - 1)), correction=0)
        return (x - mean) * (self.weight * torch.rsqrt(variance + self.eps)) + self.bias


class GroupNorm(nn.GroupNorm):
    """Normalisation of each image [batch, height, width, channels] over groups of channels."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalised x, of the same shape."""
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


class LayerNorm(nn.Module):
    """Normalisation of each vector of [batch, *, features], with learned scale and shift."""

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x, of the same shape."""
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


def image_norm(norm: Norm, channels: int) -> list[nn.Module]:
    """The normalisation of images that a name stands for; `none` is no layer.

    Args:
        norm: `batch` normalises by the statistics of several examples; `layer` each example over channels and pixels;
            `group` over groups of 8 channels (as `layer` where 8 does not divide `channels`).
        channels: of the images.
    """
    match norm:
        case "batch":
            return [BatchNorm(channels)]
        case "layer":
            return [GroupNorm(1, channels)]
        case "group":
            return [GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)]
        case "none":
            return []
