"""A model is a pure function of its parameters, with what is needed to draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.models.roles import roles_of
from metaopt.models.tokens import Embedding
from metaopt.types import Params, TaskSpec

Hidden: TypeAlias = Mapping[str, Callable[[Tensor], Tensor]]
"""By weight of a layer, a function of the layer's input, [examples, *], whose value goes into the layer instead."""


class Moments(NamedTuple):
    """How torch would draw a parameter tensor: its mean and its standard deviation, both scalars."""

    mean: float
    std: float


@dataclass(frozen=True)
class Model:
    """A network without parameters of its own.

    Attributes:
        spec: name and settings, JSON-serialisable; equal specs with equal shapes make the same function.
        module: the torch module that gives the structure. Its parameter values are never used.
        shapes: shape of each parameter tensor, in the order of the forward pass.
        init: mean and standard deviation of torch's own initialisation, by parameter tensor.
        transductive: true where a prediction depends on the other examples of its batch (batch statistics). The module
            then takes a second argument: how many of the first examples the statistics are of.
        input_layer: parameter tensors of the linear layer that flat inputs go into, the weight [units, inputs] first;
            empty where there is none. Their initialisation follows the width of a padded task (see `Batch`).
        roles: role of each parameter tensor, see `roles_of`.
        masks: true where the model itself leaves out inputs that are NaN, such as the columns that a padded task does
            not have.
    """

    spec: dict[str, Any]
    module: nn.Module
    shapes: dict[str, torch.Size]
    init: dict[str, Moments]
    transductive: bool = False
    input_layer: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    masks: bool = False

    def apply(
        self,
        params: Params,
        x: Tensor,
        reference: Tensor | None = None,
        hidden: Hidden | None = None,
    ) -> Tensor:
        """Outputs for one task.

        Args:
            params: every parameter of `shapes`.
            x: [examples, *input].
            reference: what batch statistics are of, [others, *input], so that a prediction does not depend on the other
                examples of `x` (inductive); None: of `x`. A model without batch statistics does not look at it.
            hidden: what goes into some of the layers instead of their inputs; None: nothing is changed, at no cost.

        Returns:
            [examples, outputs].
        """
        if hidden is not None:
            with intercepted(self.module, hidden):
                return self.apply(params, x, reference)
        if reference is None or not self.transductive:
            return torch.func.functional_call(self.module, params, (x,))
        n = len(reference)
        return torch.func.functional_call(self.module, params, (torch.cat([reference, x]), n))[n:]


@contextmanager
def intercepted(module: nn.Module, hidden: Hidden) -> Iterator[None]:
    """Gives some of a module's layers a function of their inputs while the block runs; see `Model.apply`."""
    hooks = [
        module.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(_changing(change))
        for name, change in hidden.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _changing(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], Any]:
    return lambda _layer, inputs: (change(inputs[0]), *inputs[1:])


def check_images(task: TaskSpec, name: str) -> tuple[int, int, int]:
    """Channels, height and width of a task's inputs, for the model `name`.

    Raises:
        ConfigError: the inputs are not images.
    """
    if len(task.input_shape) != 3:
        raise ConfigError(
            f"model={name} needs images (channels, height, width), but the tasks have inputs of shape "
            f"{task.input_shape}; use model=mlp"
        )
    channels, height, width = task.input_shape
    return channels, height, width


def check_numbers(task: TaskSpec, name: str) -> None:
    """Raises ConfigError where inputs are ids of words, which the model `name` would take for quantities."""
    if task.vocabulary is not None:
        raise ConfigError(
            f"model={name} takes numbers, but the tasks' inputs are ids of {task.vocabulary} words; "
            "use model=transformer"
        )


def count_activations(model: Model, x: Tensor) -> int:
    """Numbers that the model's layers put out for a batch of inputs, [examples, *input]."""
    counts: list[int] = []

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        counts.append(output.numel())

    layers = [layer for layer in model.module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            model.module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def model_from(
    module: nn.Module,
    spec: dict[str, Any],
    transductive: bool = False,
    input_layer: tuple[str, ...] = (),
    masks: bool = False,
) -> Model:
    """Wraps a module made of linear, convolution, embedding and normalisation layers; see `Model`."""
    init: dict[str, Moments] = {}
    for path, layer in module.named_modules():
        for name, parameter in layer.named_parameters(prefix=path, recurse=False):
            init[name] = _default_moments(layer, name, parameter)
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    return Model(spec, module, shapes, init, transductive, input_layer, roles_of(module), masks)


def _default_moments(layer: nn.Module, name: str, parameter: Tensor) -> Moments:
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        # torch draws weight and bias from U(-b, b) with b = 1/sqrt(fan_in); its standard deviation is b/sqrt(3).
        fan_in = layer.weight[0].numel()
        return Moments(0.0, (3 * fan_in) ** -0.5)
    if isinstance(layer, Embedding):
        return Moments(0.0, layer.std)
    is_scale = name.endswith("weight")
    return Moments(1.0 if is_scale else 0.0, 0.0)
