"""The layers of a transformer, of plain products and sums, which have derivatives of every order and mode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metaopt.models.layers import LayerNorm, Linear

NEVER = -1e9
"""What is added to the score of a token that is not there: its weight is zero to the last bit."""


class Weights(nn.Module):
    """How much each token looks at each other: scaled products as a softmax over the tokens.

    Not torch's fused attention, whose kernels have no second derivatives.
    """

    def forward(self, queries: Tensor, keys: Tensor, absent: Tensor) -> Tensor:
        """[batch, heads, length, length].

        Args:
            queries: [batch, heads, length, size].
            keys: of the same shape.
            absent: which tokens are not there, bool [batch, length].
        """
        scores = queries @ keys.mT * queries.shape[-1] ** -0.5
        return (scores + NEVER * absent[:, None, None].to(scores.dtype)).softmax(-1)


class Attention(nn.Module):
    """Multi-head self-attention over tokens [batch, length, width].

    A bias of the keys would change nothing, and those of the queries and values little beside the normalisation's.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width, bias=False)
        self.weights = Weights()
        self.output = Linear(width, width)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """What each token takes from those that are there, of the same shape; `absent`: bool [batch, length]."""
        queries, keys, values = (self._by_head(layer(x)) for layer in (self.query, self.key, self.value))
        found = self.weights(queries, keys, absent) @ values
        return self.output(found.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention, then two linear layers token by token, each after normalisation and beside a shortcut (pre-norm).

    Xiong et al., "On Layer Normalization in the Transformer Architecture" (2020).
    """

    def __init__(self, width: int, heads: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.norm0 = LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm1 = LayerNorm(width)
        self.up = Linear(width, hidden)
        self.activation = activation
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """Tokens of the same shape, [batch, length, width]."""
        x = x + self.attention(self.norm0(x), absent)
        return x + self.down(self.activation(self.up(self.norm1(x))))


class MeanOfPresent(nn.Module):
    """The mean over the tokens that are there; zero where there is none."""

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        """[batch, length, width] to [batch, width]."""
        present = (~absent).to(x.dtype).unsqueeze(-1)
        return (x * present).sum(1) / present.sum(1).clamp(min=1)


def absent_tokens(x: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [batch, length, size] with zeros for those that are NaN throughout, and which these are."""
    absent = torch.isnan(x).all(-1)
    return torch.where(absent.unsqueeze(-1), 0.0, x), absent
