"""Multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from metaopt.models.mixed_activation import ACTIVATIONS, MIXED, MixedActivation
from metaopt.models.model import Model, check_numbers, model_from
from metaopt.types import TaskSpec

Activation = Literal["relu", "tanh", "gelu", "silu", "elu"]
Mixture = Literal["mixture"]


def mlp(task: TaskSpec, widths: Sequence[int] = (32, 32), activation: Activation | Mixture = "relu") -> Model:
    """A multi-layer perceptron on flattened inputs.

    Args:
        task: says the sizes of inputs and outputs.
        widths: units of each hidden layer; none makes a linear model.
        activation: nonlinearity after each hidden layer; `mixture`: one learned mixture of them all, see
            `MixedActivation`.

    Returns:
        A model with parameters `hidden0.weight`, `hidden0.bias`, …, `output.weight`, `output.bias`; and
        `activation0.logits` of a mixture.

    Raises:
        ConfigError: the inputs are ids of words.
    """
    check_numbers(task, "mlp")
    sizes = [math.prod(task.input_shape), *widths]
    module = nn.Sequential()
    module.add_module("flatten", nn.Flatten())
    mixed = MixedActivation() if activation == MIXED and widths else None
    for i, (size_in, size_out) in enumerate(pairwise(sizes)):
        module.add_module(f"hidden{i}", nn.Linear(size_in, size_out))
        module.add_module(f"activation{i}", mixed or ACTIVATIONS[activation]())
    module.add_module("output", nn.Linear(sizes[-1], task.output_size))
    first = "hidden0" if widths else "output"
    spec = {"name": "mlp", "widths": list(widths), "activation": activation}
    return model_from(module, spec, input_layer=(f"{first}.weight", f"{first}.bias"), plain=True)
