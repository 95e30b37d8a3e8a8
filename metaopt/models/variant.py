"""The same kind of network with another nonlinearity, width or depth: what model selection chooses among."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metaopt.errors import ConfigError
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.types import TaskSpec

CHANGES = ("activation", "width", "depth")


def variant(model: Model, task: TaskSpec, changes: Mapping[str, Any]) -> Model:
    """The model with some of its settings changed; itself where they are its own already.

    Args:
        model: an MLP, unless nothing is changed.
        task: what it is built for.
        changes: `activation`; `width`: units of every hidden layer; `depth`: number of hidden layers.

    Raises:
        ConfigError: the model is none whose settings these are.
    """
    if not changes:
        return model
    check_variants(model, changes)
    own = list(model.spec["widths"])
    depth = changes.get("depth", len(own))
    as_is = "width" not in changes and depth == len(own)
    widths = own if as_is else [changes.get("width", max(own, default=32))] * depth
    activation = changes.get("activation", model.spec["activation"])
    return model if (widths, activation) == (own, model.spec["activation"]) else mlp(task, widths, activation)


def check_variants(model: Model, names: Mapping[str, Any] | tuple[str, ...]) -> None:
    """Raises ConfigError where the model has no such settings to choose among."""
    chosen = [name for name in CHANGES if name in names]
    if chosen and model.spec["name"] != "mlp":
        raise ConfigError(
            f"search.space has {chosen[0]}, which is chosen for model=mlp only, but the model is "
            f"{model.spec['name']}; leave {', '.join(chosen)} out"
        )
