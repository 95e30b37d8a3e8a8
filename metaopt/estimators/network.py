"""The networks that an estimator trains, and what they make of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaopt.errors import PolicyFileError
from metaopt.models.mixed_activation import ACTIVATIONS, MIXED
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.policies.file import PolicyCard
from metaopt.trees import cast
from metaopt.types import Kind, Params, TaskSpec

ROWS_AT_ONCE = 8192
"""Rows that are predicted together; bounds the memory."""


class Network(NamedTuple):
    """What says the function of a multi-layer perceptron, but for its weights.

    Attributes:
        spec: sizes and kind of the task.
        hidden: widths of the hidden layers.
        activation: nonlinearity after each.
    """

    spec: TaskSpec
    hidden: tuple[int, ...]
    activation: Any

    def model(self) -> Model:
        """The model. Torch draws weights whenever it makes a layer, from a state that belongs to the user."""
        with torch.random.fork_rng(devices=[]):
            return mlp(self.spec, self.hidden, self.activation)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Torch as it is at its start, whatever the program around has set, which is put back at the end.

    That is float32, tensors on the CPU, no autocast and no inference mode.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as entered:
            if torch.get_default_device().type != "cpu":
                entered.enter_context(torch.device("cpu"))
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    entered.enter_context(torch.autocast(device, enabled=False))
            if torch.is_inference_mode_enabled():
                entered.enter_context(torch.inference_mode(False))
            yield
    finally:
        torch.set_default_dtype(dtype)


def network_for(spec: TaskSpec, card: PolicyCard, hidden: tuple[int, ...] | None) -> Network:
    """The network of a task.

    Args:
        spec: sizes and kind of the task.
        card: of the policy, whose own model says what is not given.
        hidden: widths of the hidden layers; None: those of the policy's model.

    Raises:
        ValueError: the policy's model has none.
        PolicyFileError: the file says impossible ones.
    """
    name = card.model.get("name")
    if hidden is None and name not in ("mlp", "linear"):
        raise ValueError(
            f"hidden is None, but the policy was meta-trained on a {name}, which has no widths to take over; give "
            "hidden=(32, 32)"
        )
    widths = card.model.get("widths", ()) if hidden is None else hidden
    activation = card.model.get("activation", "relu")
    sound = isinstance(widths, (list, tuple)) and all(type(width) is int and width > 0 for width in widths)
    if not sound or activation not in (*ACTIVATIONS, MIXED):
        raise PolicyFileError(f"the policy has damaged metadata (model {card.model}); train the policy again")
    return Network(spec, tuple(widths), activation)


def outputs_of(network: Network, weights: Params, x: Tensor) -> Tensor:
    """The average over the networks of what each makes of inputs: probabilities of classes, or values.

    It is computed in float64, where sums do not depend on what else is in a batch to a digit that anybody sees.

    Args:
        network: what weights are of.
        weights: [networks, *shape] each.
        x: [rows, inputs].

    Returns:
        [rows, outputs], float64.
    """
    model, exact = network.model(), cast(weights, torch.float64)
    classes = network.spec.kind is Kind.classification

    def outputs(params: Params, rows: Tensor) -> Tensor:
        out = model.apply(params, rows)
        return out.softmax(-1) if classes else out

    with torch.no_grad():
        of_all = torch.func.vmap(outputs, in_dims=(0, None))
        return torch.cat([of_all(exact, rows).mean(0) for rows in x.double().split(ROWS_AT_ONCE)])
