"""Strengths that enter the inner loss: label smoothing, Gaussian dropout and input noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaopt.errors import ConfigError
from metaopt.models.model import Hidden
from metaopt.models.objective import Perturbation, TrainingLoss
from metaopt.policies.rule import InnerLoss, LossNoise, Strength
from metaopt.policies.settings import StrengthSettings
from metaopt.policies.tables import table
from metaopt.types import Batch, Loss, Params

PLACE_ROLES = ("hidden.weight", "last.weight")
"""Roles of the weights whose layers see what other layers have made."""
BANK_SIZE = 32749
"""Random numbers of a task. A prime, so that rows of no layer fall on the same numbers again and again."""
APART = (0.8191725134, 0.6710436068, 0.5497004779)
"""How far apart in the bank two steps, two layers and two examples begin, as shares of it: the steps of a sequence that
fills a circle evenly (Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018)."""


class LossStrengths(NamedTuple):
    """What enters the inner loss, in natural units; None is absent.

    Attributes:
        smoothing: share of each target that is spread evenly over the task's classes.
        dropout: rates, by weight of the layer whose inputs are multiplied with 1 + rate ε (Gaussian dropout; Srivastava
            et al., "Dropout", 2014, section 10; learned rates: Kingma et al., "Variational dropout and the local
            reparameterization trick", 2015).
        input_noise: standard deviation of what is added to the inputs (Bishop, "Training with noise is equivalent to
            Tikhonov regularization", 1995).
    """

    smoothing: Tensor | float | None = None
    dropout: Strength | None = None
    input_noise: Tensor | float | None = None


def places_of(roles: Mapping[str, str]) -> tuple[str, ...]:
    """The weights of the layers whose inputs dropout multiplies: of all but the first.

    Args:
        roles: by parameter tensor, see `roles_of`. Where there is one layer only, it is the last one, and sees inputs.
    """
    if not any(role.startswith("first.") for role in roles.values()):
        return ()
    return tuple(name for name, role in roles.items() if role in PLACE_ROLES and name.endswith(".weight"))


def inner_loss(strengths: LossStrengths) -> InnerLoss:
    """The wrapper around a task's loss that the strengths make."""
    smoothing, dropout, input_noise = strengths

    def wrapped(loss: TrainingLoss, noise: LossNoise, step: int | Tensor) -> Loss:
        rates = enumerate((dropout or {}).items(), 1)
        hidden: Hidden = {name: partial(_multiplied, rate, noise, step, use) for use, (name, rate) in rates}

        def perturbed(params: Params, batch: Batch) -> Tensor:
            if input_noise is not None:
                batch = Batch(_shifted(input_noise, noise, step, batch.x), batch.y)
            return loss(params, batch, Perturbation(smoothing, hidden or None))

        return perturbed

    return wrapped


def _multiplied(rate: Tensor | float, noise: LossNoise, step: int | Tensor, use: int, x: Tensor) -> Tensor:
    return x * (1 + rate * numbers(noise, step, use, x.shape))


def _shifted(strength: Tensor | float, noise: LossNoise, step: int | Tensor, x: Tensor) -> Tensor:
    """Inputs with noise; what is NaN, and the columns that a task does not have, stay what they are."""
    if not x.is_floating_point():
        raise ConfigError(
            f"policy.input_noise is on, but inputs are {x.dtype}, ids that noise would turn into others; use "
            "policy.input_noise.mode=off"
        )
    moves = strength * numbers(noise, step, 0, x.shape)
    return x + (moves if noise.present is None else moves * noise.present)


def numbers(noise: LossNoise, step: int | Tensor, use: int, shape: torch.Size) -> Tensor:
    """The standard normal numbers of one use in one step: the same whenever they are asked for.

    An example's numbers depend on its index and not on how many there are in an example, so that what is appended to
    it, as padding is, changes none of the others.

    Args:
        noise: of the task.
        step: an int, or a scalar int64 tensor.
        use: 0: the inputs; from 1 on: a layer.
        shape: [examples, *example].
    """
    bank = noise.bank
    assert bank is not None, "a policy whose settings draw noise is given noise"
    size = bank.shape[-1]
    by_step, by_use, by_example = (round(share * size) for share in APART)
    begin = step * by_step + use * by_use
    examples = torch.arange(shape[0], device=bank.device) * by_example
    within = torch.arange(math.prod(shape[1:]), device=bank.device)
    return bank[(begin + examples[:, None] + within) % size].view(shape)


def dropout_table(
    dropout: StrengthSettings, shapes: Mapping[str, torch.Size], roles: Mapping[str, str], known_roles: Sequence[str]
) -> dict[str, nn.ParameterDict]:
    """The logarithms of the dropout rates, by quantity; none where they are fixed.

    Raises:
        ConfigError: the model has no place for dropout.
    """
    places = places_of(roles)
    if not places:
        raise ConfigError(
            f"policy.dropout.mode is {dropout.mode}, but the model has no layer after its first, whose inputs "
            "dropout would multiply; use policy.dropout.mode=off or a model with hidden layers"
        )
    if dropout.mode != "learned":
        return {}
    own, known = {name: shapes[name] for name in places}, [role for role in known_roles if role in PLACE_ROLES]
    return {"dropout": table(own, dropout.granularity, math.log(dropout.value), known)}
