"""Logistic and linear regression."""

from __future__ import annotations

import math

from torch import nn

from metaopt.models.model import Model, check_numbers, model_from
from metaopt.types import TaskSpec


def linear(task: TaskSpec) -> Model:
    """One linear layer on flattened inputs: logistic regression on classification tasks, linear regression on others.

    Args:
        task: says the sizes of inputs and outputs.

    Returns:
        A model with parameters `output.weight` and `output.bias`.

    Raises:
        ConfigError: the inputs are ids of words.
    """
    check_numbers(task, "linear")
    module = nn.Sequential()
    module.add_module("flatten", nn.Flatten())
    module.add_module("output", nn.Linear(math.prod(task.input_shape), task.output_size))
    return model_from(module, {"name": "linear"}, input_layer=("output.weight", "output.bias"), plain=True)
