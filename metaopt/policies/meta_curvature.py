"""Meta-Curvature: learned matrices that a gradient is multiplied with, mode by mode, before the step is taken.

E. Park, J. B. Oliva. "Meta-Curvature". NeurIPS 2019; with all matrices learned, which the paper calls MC2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from metaopt.policies.rule import State, UpdateRule
from metaopt.types import Params


def modes(shape: torch.Size) -> tuple[int, ...]:
    """Sizes of the modes of a parameter tensor.

    A bias [n] has one; a weight [out, in] has two; a convolution's weight [out, in, height, width] has three, of which
    the last runs over the whole kernel.
    """
    return (*shape[:2], math.prod(shape[2:])) if len(shape) > 2 else tuple(shape)


def identities(shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The matrices with which a step is plain gradient descent.

    Args:
        shapes: by parameter tensor.

    Returns:
        For each mode of each tensor an identity matrix [size, size], by `matrix_key`.
    """
    return {
        matrix_key(name, mode): torch.eye(size)
        for name, shape in shapes.items()
        for mode, size in enumerate(modes(shape))
    }


def matrix_key(name: str, mode: int) -> str:
    """Where the matrix of a mode is kept, without dots, as torch modules want it: "hidden0/weight/1"."""
    return f"{name.replace('.', '/')}/{mode}"


def preconditioned(rule: UpdateRule, matrices: Mapping[str, Tensor]) -> UpdateRule:
    """The same rule on transformed gradients: G ×₁ M₁ ×₂ M₂ ×₃ M₃, with ×ₖ the product along the k-th mode.

    Args:
        rule: what is done with the transformed gradients. L2 and the pull are added to them, and are not transformed.
        matrices: M [size, size] of each mode of each parameter tensor, by `matrix_key`; of any values, not necessarily
            positive definite, as in the paper.
    """

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        transformed = {name: _transformed(name, g, matrices) for name, g in grads.items()}
        return rule.update(params, transformed, state, step, loss)

    return rule._replace(update=update)


def _transformed(name: str, gradient: Tensor, matrices: Mapping[str, Tensor]) -> Tensor:
    sizes = modes(gradient.shape)
    result = gradient.reshape(sizes)
    for mode in range(len(sizes)):
        result = (result.movedim(mode, -1) @ matrices[matrix_key(name, mode)].T).movedim(-1, mode)
    return result.reshape(gradient.shape)
