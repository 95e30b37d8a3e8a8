"""Learned dropout and input noise in an ordinary model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metaopt.policies.loss_strengths import LossStrengths


class Regularised:
    """Hooks that multiply what goes into layers with 1 + rate ε, and add noise to the inputs, ε standard normal.

    They do so in training mode only. Label smoothing is for the loss function: `label_smoothing`.

    Args:
        module: the model.
        strengths: of the policy, fitted to it.

    Attributes:
        label_smoothing: for `torch.nn.functional.cross_entropy`.
    """

    def __init__(self, module: nn.Module, strengths: LossStrengths) -> None:
        smoothing, dropout, noise = strengths
        self.label_smoothing = 0.0 if smoothing is None else _number(smoothing)
        hooks: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = []
        for name, rate in (dropout or {}).items():
            hooks.append((module.get_submodule(name.removesuffix(".weight")), _multiplied(_number(rate))))
        if noise is not None:
            hooks.append((module, _shifted(_number(noise))))
        self._handles = [layer.register_forward_pre_hook(_training(change)) for layer, change in hooks]

    def remove(self) -> None:
        """Leaves the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Regularised:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else value


def _training(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], Any]:
    def hook(layer: nn.Module, inputs: Any) -> Any:
        return (change(inputs[0]), *inputs[1:]) if layer.training else None

    return hook


def _multiplied(rate: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * (1 + rate * torch.randn_like(x))


def _shifted(strength: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + strength * torch.randn_like(x)
