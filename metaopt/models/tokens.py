"""From inputs of any shape to tokens, and from tokens to vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Flat(nn.Module):
    """Flat inputs [batch, length] as tokens of one number, [batch, length, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """The view."""
        return x.unsqueeze(-1)


class Rows(nn.Module):
    """Images [batch, channels, height, width] as a token for each row, [batch, height, channels * width]."""

    def forward(self, x: Tensor) -> Tensor:
        """The tokens, from the top."""
        return x.movedim(1, 2).flatten(2)


class Patches(nn.Module):
    """Images [batch, channels, height, width] as a token for each square of `size` pixels a side, left to right."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[batch, patches, channels * size * size]."""
        squares = x.unflatten(3, (-1, self.size)).unflatten(2, (-1, self.size))
        return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class Embedding(nn.Module):
    """A layer with a vector of `width` numbers, or two, for each of `count` things, drawn from U(-1/√width, 1/√width).

    So FT-Transformer (Gorishniy et al., 2021) draws its vectors.

    Attributes:
        std: standard deviation of the drawn numbers.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.bound = width**-0.5
        self.std = self.bound / 3**0.5
        self.weight = nn.Parameter(torch.empty(count, width))

    def reset_parameters(self) -> None:
        """Draws the vectors."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -self.bound, self.bound)


class Columns(Embedding):
    """A table's columns [batch, columns, 1] as vectors: each number times its column's weight, plus its bias.

    As FT-Transformer makes tokens of them.
    """

    def __init__(self, columns: int, width: int) -> None:
        super().__init__(columns, width)
        self.bias = nn.Parameter(torch.empty(columns, width))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[batch, columns, width]."""
        return x * self.weight + self.bias


class Words(Embedding):
    """Ids of words [batch, length, 1] as vectors; the bias is a vector for each position.

    Args:
        vocabulary: number of words.
        width: of a vector.
        positions: how many there are; None: vectors do not tell where a word stands.
    """

    def __init__(self, vocabulary: int, width: int, positions: int | None) -> None:
        super().__init__(vocabulary, width)
        self.bias = None if positions is None else nn.Parameter(torch.empty(positions, width))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, width]."""
        vectors = nn.functional.embedding(x.squeeze(-1).long(), self.weight)
        return vectors if self.bias is None else vectors + self.bias


class Places(nn.Linear):
    """A linear map of tokens [batch, length, size] with a bias for each position: a learned position embedding."""

    def __init__(self, length: int, size: int, width: int) -> None:
        super().__init__(size, width)
        self.bias = nn.Parameter(torch.empty(length, width))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """[batch, length, width]."""
        return (x.flatten(0, 1) @ self.weight.mT).unflatten(0, x.shape[:2]) + self.bias
