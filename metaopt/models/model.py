"""A model is a pure function of its parameters, with what is needed to draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from metaopt.errors import ConfigError
from metaopt.models.initial import Moments, moments_of
from metaopt.models.roles import roles_of
from metaopt.models.running import Habits, as_function, without_draws
from metaopt.types import Params, TaskSpec

Hidden: TypeAlias = Mapping[str, Callable[[Tensor], Tensor]]
"""By weight of a layer, a function of the layer's input, [examples, *], whose value goes into the layer instead."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network without parameters of its own.

    Attributes:
        spec: name and settings, JSON-serialisable; equal specs with equal shapes make the same function.
        module: the torch module that gives the structure. No pass changes its parameters or its buffers.
        shapes: shape of each parameter tensor, in the order of the forward pass.
        init: how each of them starts; see `moments_of`.
        transductive: true where a prediction depends on the other examples of its batch (batch statistics). The module
            then takes a second argument: how many of the first examples the statistics are of.
        input_layer: parameter tensors of the linear layer that flat inputs go into, the weight [units, inputs] first;
            empty where there is none. Their initialisation follows the width of a padded task (see `Batch`).
        roles: role of each parameter tensor, see `roles_of`.
        masks: true where the model itself leaves out inputs that are NaN, such as the columns that a padded task does
            not have.
        plain: true where the module is known to be a pure function of numbers, with derivatives of every order and for
            tasks side by side; any other is watched before it is trained (`inner/examine.py`).
        habits: what was seen of a module that is not plain.
    """

    spec: dict[str, Any]
    module: nn.Module
    shapes: dict[str, torch.Size]
    init: dict[str, Moments]
    transductive: bool = False
    input_layer: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    masks: bool = False
    plain: bool = False
    habits: Habits = field(default_factory=Habits)

    def apply(
        self,
        params: Params,
        x: Tensor,
        reference: Tensor | None = None,
        hidden: Hidden | None = None,
    ) -> Tensor:
        """Outputs for one task, as they are in training.

        A module is run in the mode that it is in. Batch normalisation in training mode takes the statistics of `x`; in
        evaluation mode, those that the module has. Parameters that a pass does not use have a gradient of zero.

        Args:
            params: every parameter of `shapes`.
            x: [examples, *input]; whole numbers stay whole unless the model is plain.
            reference: what batch statistics are of, [others, *input], so that a prediction does not depend on the other
                examples of `x` (inductive); None: of `x`. A model without batch statistics does not look at it.
            hidden: what goes into some of the layers instead of their inputs; None: nothing is changed, at no cost.

        Returns:
            [examples, outputs].
        """
        if hidden is not None:
            with intercepted(self.module, hidden):
                return self.apply(params, x, reference)
        if not self.plain:
            return as_function(self.module, params, (x,), self.habits)
        if not x.is_floating_point():
            x = x.to(next(iter(params.values())).dtype)
        if reference is None or not self.transductive:
            return torch.func.functional_call(self.module, params, (x,))
        n = len(reference)
        return torch.func.functional_call(self.module, params, (torch.cat([reference, x]), n))[n:]

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Outputs for one task where nothing is trained: layers that draw random numbers are in evaluation mode."""
        with without_draws(self.module, self.habits):
            return self.apply(params, x)


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

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        counts.extend(tensor.numel() for tensor in tree_leaves(output) if isinstance(tensor, Tensor))

    layers = [layer for layer in model.module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    params = {name: p.detach() for name, p in model.module.named_parameters()}
    try:
        with torch.no_grad():
            model.apply(params, x)
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
    plain: bool = False,
) -> Model:
    """Wraps any module; see `Model`.

    A module that is plain starts by the laws of its layers; any other as `moments_of` says, from a copy of its values.

    Raises:
        ConfigError: see `moments_of`.
    """
    init = moments_of(module, made_by_law=plain)
    shapes = {name: p.shape for name, p in module.named_parameters() if name in init}
    roles = {name: role for name, role in roles_of(module).items() if name in init}
    return Model(spec, module, shapes, init, transductive, input_layer, roles, masks, plain)
