"""A mixture of activations, whose weights belong to the policy: no inner step trains them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
MIXED = "mixture"
SHARPNESS = 4.0
"""What the softmax multiplies the logits with, as for update directions."""


class MixedActivation(nn.Module):
    """Σ wₖ·aₖ(x) over `ACTIVATIONS`, with softmax weights w (Liu et al., "DARTS", ICLR 2019).

    Attributes:
        logits: [activations]; of the role `CHOICE`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(len(ACTIVATIONS)))
        self.candidates = nn.ModuleList([kind() for kind in ACTIVATIONS.values()])

    def forward(self, x: Tensor) -> Tensor:
        """The weighted sum, of the shape of x."""
        weights = activation_weights(self.logits)
        return torch.stack([candidate(x) for candidate in self.candidates], -1) @ weights


def activation_weights(logits: Tensor) -> Tensor:
    """The share of each activation, [activations]; they sum to 1."""
    return torch.softmax(SHARPNESS * logits, -1)


def activation_shares(logits: Tensor) -> dict[str, float]:
    """The same by name."""
    return dict(zip(ACTIVATIONS, activation_weights(logits).tolist(), strict=True))
