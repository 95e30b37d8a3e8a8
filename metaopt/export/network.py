"""Any torch module as a model that a policy can be fitted to."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from metaopt.errors import ConfigError
from metaopt.models.model import Model, Moments
from metaopt.models.roles import roles_of
from metaopt.models.tokens import Embedding

WRAPPERS = ("_orig_mod", "module")
"""What `torch.compile` and `DistributedDataParallel` put before the names of what they wrap."""
UNKNOWN = Moments(0.0, 0.0)


class Network(NamedTuple):
    """A module, with the names by which a policy knows its parameters.

    Attributes:
        module: what is trained, without the wrappers of `torch.compile` and of data parallelism.
        parameters: by name, those that need a gradient.
        model: their shapes, roles and torch's own initialisation, as for metaopt's own models.
        drawn: names of the tensors that torch draws at random in a way that is known.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    model: Model
    drawn: tuple[str, ...]


def network_of(module: nn.Module) -> Network:
    """What a policy must know of a module.

    Args:
        module: of any layers. Their order is taken to be that of the forward pass, see `roles_of`.

    Raises:
        ConfigError: it has nothing to train, or a lazy layer that has not seen its inputs.
    """
    inner = unwrapped(module)
    parameters = {plain_name(name): p for name, p in inner.named_parameters() if p.requires_grad}
    lazy = [name for name, p in parameters.items() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ConfigError(f"{lazy[0]} has no shape yet; run the model once on a batch before a policy meets it")
    if not parameters:
        raise ConfigError(
            f"{type(inner).__name__} has no parameters that need a gradient; set requires_grad of those to train"
        )
    moments: dict[str, Moments] = {}
    for path, layer in inner.named_modules():
        for name, p in layer.named_parameters(prefix=path, recurse=False):
            moments[plain_name(name)] = _moments(layer, name.rpartition(".")[2], p)
    roles = {plain_name(name): role for name, role in roles_of(inner).items()}
    spec: dict[str, Any] = {"name": type(inner).__name__}
    model = Model(
        spec,
        inner,
        {name: p.shape for name, p in parameters.items()},
        {name: moments[name] for name in parameters},
        roles={name: roles[name] for name in parameters},
    )
    return Network(inner, parameters, model, tuple(name for name in parameters if moments[name].std > 0))


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of `torch.compile` and of data parallelism."""
    children = dict(module.named_children())
    own = next(module.parameters(recurse=False), None)
    while len(children) == 1 and own is None and next(iter(children)) in WRAPPERS:
        module = next(iter(children.values()))
        children, own = dict(module.named_children()), next(module.parameters(recurse=False), None)
    return module


def plain_name(name: str) -> str:
    """A parameter's name without what `torch.compile` adds to it where a part of a model is compiled."""
    return ".".join(part for part in name.split(".") if part != WRAPPERS[0])


def _moments(layer: nn.Module, name: str, p: torch.Tensor) -> Moments:
    """How torch's `reset_parameters` draws a tensor; `UNKNOWN` where it does not, or nobody has said."""
    if isinstance(layer, (nn.Linear, _ConvNd)) and name in ("weight", "bias"):
        return Moments(0.0, (3 * layer.weight[0].numel()) ** -0.5)
    if isinstance(layer, nn.RNNBase):
        return Moments(0.0, (3 * layer.hidden_size) ** -0.5)
    if isinstance(layer, nn.Embedding):
        return Moments(0.0, 1.0)
    if isinstance(layer, Embedding):
        return Moments(0.0, layer.std)
    if isinstance(layer, nn.MultiheadAttention) and name.endswith("weight"):
        return Moments(0.0, math.sqrt(2 / sum(p.shape)))
    return UNKNOWN
