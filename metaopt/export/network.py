"""Any torch module as a model that a policy can be fitted to."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.models.initial import moments_of
from metaopt.models.model import Model
from metaopt.models.roles import roles_of

WRAPPERS = ("_orig_mod", "module")
"""What `torch.compile` and `DistributedDataParallel` put before the names of what they wrap."""


class Network(NamedTuple):
    """A module, with the names by which a policy knows its parameters.

    Attributes:
        module: what is trained, without the wrappers of `torch.compile` and of data parallelism.
        parameters: by name, those that need a gradient.
        model: their shapes, roles and how they start, as for metaopt's own models. What starts at the module's values
            shares their memory.
        drawn: names of the tensors whose numbers are not all the same at the start.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    model: Model
    drawn: tuple[str, ...]


def network_of(module: nn.Module, also: Collection[Tensor] = ()) -> Network:
    """What a policy must know of a module.

    Args:
        module: of any layers. Their order is taken to be that of the forward pass, see `roles_of`.
        also: parameters that count as trained, whether they need a gradient now or not.

    Raises:
        ConfigError: it is no module, has nothing to train, or a parameter without a shape, without values, or with
            complex ones.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"a policy needs the model itself, which says what its parameters are for, but got a "
            f"{type(module).__name__}; give policy.optimizer(model), and parameter groups as groups="
        )
    inner = unwrapped(module)
    init = moments_of(inner, copy=False, also=also)
    parameters = dict(inner.named_parameters())
    roles = roles_of(inner)
    model = Model(
        {"name": type(inner).__name__},
        inner,
        {plain_name(name): parameters[name].shape for name in init},
        {plain_name(name): moments for name, moments in init.items()},
        roles={plain_name(name): roles[name] for name in init},
    )
    drawn = tuple(name for name, moments in model.init.items() if moments.std > 0)
    return Network(inner, {plain_name(name): parameters[name] for name in init}, model, drawn)


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
