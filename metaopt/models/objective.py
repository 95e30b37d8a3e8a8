"""Losses and scores: what a model's outputs are worth on a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metaopt.models.model import Model
from metaopt.types import Batch, Kind, Loss, Params


class Scores(Protocol):
    """(params, batch of one task) -> (loss, accuracy), scalars; the accuracy of a regression is NaN."""

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """See the class."""
        ...


class Objective(NamedTuple):
    """What the loops minimise and what they report.

    Attributes:
        loss: (params, batch of one task) -> scalar: mean cross-entropy in nats, or mean squared error.
        scores: (params, batch of one task) -> (loss, accuracy), from one forward pass.
    """

    loss: Loss
    scores: Scores


def objective(model: Model, kind: Kind) -> Objective:
    """Cross-entropy with accuracy for classification, mean squared error for regression."""
    return objective_of(model.apply, kind)


def objective_of(apply: Callable[[Params, Tensor], Tensor], kind: Kind) -> Objective:
    """The same for any function (params, inputs [examples, *input]) -> outputs [examples, outputs]."""
    if kind is Kind.regression:

        def squared_error(params: Params, batch: Batch) -> Tensor:
            # Not F.mse_loss, whose gradient has no forward-mode derivative.
            return (apply(params, batch.x) - batch.y).square().mean()

        def error_scores(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
            loss = squared_error(params, batch)
            return loss, torch.full_like(loss, torch.nan)

        return Objective(squared_error, error_scores)

    def cross_entropy(params: Params, batch: Batch) -> Tensor:
        return F.cross_entropy(apply(params, batch.x), batch.y)

    def class_scores(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = apply(params, batch.x)
        hits = (logits.argmax(-1) == batch.y).to(logits.dtype)
        return F.cross_entropy(logits, batch.y), hits.mean()

    return Objective(cross_entropy, class_scores)
