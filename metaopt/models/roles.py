"""The role of each parameter tensor: what a tensor is called in networks of any depth and width."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.conv import _ConvNd

from metaopt.models.mixed_activation import MixedActivation
from metaopt.models.tokens import Embedding

POSITIONS = ("first", "hidden", "last")
PARTS = ("weight", "bias", "norm")
CHOICE = "choice"
"""The role of a tensor that the policy sets and no inner step trains, such as the weights of a mixture."""
ROLES = tuple(f"{position}.{part}" for position in POSITIONS for part in PARTS)


def roles_of(module: nn.Module) -> dict[str, str]:
    """The role of each parameter tensor of a module: `first`, `hidden` or `last` layer, × `weight`, `bias` or `norm`.

    The linear, convolution, embedding and recurrent layers are counted in the order in which the module holds them,
    which is that of the forward pass. The last of them, which makes the outputs, is `last`, the first of the others
    `first`. Scale and shift of a normalisation are both `norm`, at the position of the layer before it. A tensor of the
    module's own counts to the layer before it, too; before the first, to the first.

    Args:
        module: its layers are named in the order of the forward pass.

    Returns:
        By parameter name, one of `ROLES`, or `CHOICE` for the weights of a mixture.
    """
    layers = [path for path, layer in module.named_modules() if isinstance(layer, _COUNTED)]
    positions = dict.fromkeys(layers, "hidden")
    if layers:
        positions[layers[0]] = "first"
        positions[layers[-1]] = "last"
    roles, position = {}, "first"
    for path, layer in module.named_modules():
        position = positions.get(path, position)
        for name, parameter in layer.named_parameters(prefix=path, recurse=False):
            own = f"{position}.{_part(layer, name, parameter.dim())}"
            roles[name] = CHOICE if isinstance(layer, MixedActivation) else own
    return roles


_COUNTED = (nn.Linear, nn.Bilinear, _ConvNd, nn.Embedding, nn.EmbeddingBag, nn.RNNBase, Embedding)


def _part(layer: nn.Module, name: str, dimensions: int) -> str:
    if isinstance(layer, _COUNTED) and name.endswith(("weight", "bias")):
        return name.rpartition(".")[2]
    if "norm" in type(layer).__name__.lower():
        return "norm"
    return "weight" if dimensions > 1 else "bias"
