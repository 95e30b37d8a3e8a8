"""Losses and scores: what a model's outputs are worth on a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.models.model import Hidden, Model
from metaopt.types import Batch, Kind, Params

Outer: TypeAlias = Literal["loss", "error_surrogate"]
OUTER: tuple[Outer, ...] = ("loss", "error_surrogate")
ABSENT = -1e9
"""The logit of a class that a task does not have: its probability is zero to the last bit, and so is its gradient."""


class Perturbation(NamedTuple):
    """What makes a loss harder while training on it; None is absent.

    Attributes:
        smoothing: share of each target that is spread evenly over the task's classes, a scalar in (0, 1) (Szegedy et
            al., "Rethinking the Inception architecture for computer vision", 2016).
        hidden: what goes into some of the model's layers instead of their inputs.
    """

    smoothing: Tensor | float | None = None
    hidden: Hidden | None = None


class TrainingLoss(Protocol):
    """(params, batch of one task) -> scalar loss; perturbed, if that is asked for. Pure."""

    def __call__(self, params: Params, batch: Batch, perturbation: Perturbation | None = None, /) -> Tensor:
        """See the class."""
        ...


class Scores(Protocol):
    """(params, batch of one task) -> (loss, accuracy), scalars; the accuracy of a regression is NaN."""

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        """See the class."""
        ...


Inductive: TypeAlias = Callable[[Tensor], Scores]
"""Inputs that batch statistics are of, [others, *input] -> scores whose predictions depend on no other example."""


class Objective(NamedTuple):
    """What the loops minimise and what they report.

    Attributes:
        loss: (params, batch of one task) -> scalar: mean cross-entropy in nats, or mean squared error. Training may
            give a `Perturbation` besides.
        scores: (params, batch of one task) -> (loss, accuracy), from one forward pass.
        outer: the same with the outer objective in place of the loss: what hypergradients are of, and what chooses the
            best policy.
        model: whose loss it is; None: nobody says.
    """

    loss: TrainingLoss
    scores: Scores
    outer: Scores
    model: Model | None = None

    def of(self, params_of: Callable[[Params], Params]) -> Objective:
        """The same objective of parameters in another form.

        Args:
            params_of: that form -> the model's parameters.
        """
        return Objective(
            lambda params, batch, *perturbation: self.loss(params_of(params), batch, *perturbation),
            lambda params, batch: self.scores(params_of(params), batch),
            lambda params, batch: self.outer(params_of(params), batch),
            self.model,
        )


def objective(model: Model, kind: Kind, padded: bool = False, outer: Outer = "loss") -> Objective:
    """Cross-entropy with accuracy for classification, mean squared error for regression; see `objective_of`."""
    return objective_of(model.apply, kind, padded, outer, model.predict)._replace(model=model)


def objective_of(
    apply: Callable[..., Tensor],
    kind: Kind,
    padded: bool = False,
    outer: Outer = "loss",
    predict: Callable[..., Tensor] | None = None,
) -> Objective:
    """The objective of a function (params, inputs [examples, *input]) -> outputs [examples, outputs].

    Args:
        apply: the function; with a third argument by name, `hidden`, where a perturbation has that.
        kind: classification or regression.
        padded: whether targets say which classes a task has (see `Batch`).
        outer: `loss`, or `error_surrogate`: the mean probability that is not given to the right class, a smooth
            stand-in for the share of errors, in which a few confidently wrong examples weigh no more than others.
        predict: the function in scores and the outer objective; None: the same.

    Raises:
        ConfigError: a regression has no errors to count.
    """
    predict = predict or apply
    if kind is Kind.regression:
        if outer != "loss":
            raise ConfigError(f"outer.objective is {outer!r}, which is for classification; use loss for regression")
        return _regression(apply, predict)
    return _padded_classes(apply, predict, outer) if padded else _classes(apply, predict, outer)


def _regression(apply: Callable[..., Tensor], predict: Callable[..., Tensor]) -> Objective:
    def squared_error(params: Params, batch: Batch, perturbation: Perturbation | None = None, /) -> Tensor:
        # Not F.mse_loss, whose gradient has no forward-mode derivative.
        return (_outputs(apply, params, batch.x, perturbation) - batch.y).square().mean()

    def scores(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        loss = (predict(params, batch.x) - batch.y).square().mean()
        return loss, torch.full_like(loss, torch.nan)

    return Objective(squared_error, scores, scores)


def _classes(apply: Callable[..., Tensor], predict: Callable[..., Tensor], outer: Outer) -> Objective:
    def cross_entropy(params: Params, batch: Batch, perturbation: Perturbation | None = None, /) -> Tensor:
        logits = _outputs(apply, params, batch.x, perturbation)
        if perturbation is None or perturbation.smoothing is None:
            return F.cross_entropy(logits, batch.y)
        share, logs = perturbation.smoothing, logits.log_softmax(-1)
        right = logs.gather(-1, batch.y.unsqueeze(-1)).mean()
        return (share - 1) * right - share * logs.mean()

    def scores(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = predict(params, batch.x)
        return F.cross_entropy(logits, batch.y), _accuracy(logits, batch.y)

    def errors(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = predict(params, batch.x)
        right = logits.softmax(-1).gather(-1, batch.y.unsqueeze(-1))
        return 1 - right.mean(), _accuracy(logits, batch.y)

    return Objective(cross_entropy, scores, scores if outer == "loss" else errors)


def _padded_classes(apply: Callable[..., Tensor], predict: Callable[..., Tensor], outer: Outer) -> Objective:
    def outputs(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits, and 1 at the class of each example, both [examples, classes]."""
        return torch.where(batch.y < 0, ABSENT, logits), batch.y.clamp(min=0).to(logits.dtype)

    def entropy(logits: Tensor, targets: Tensor) -> Tensor:
        return -(logits.log_softmax(-1) * targets).sum(-1).mean()

    def cross_entropy(params: Params, batch: Batch, perturbation: Perturbation | None = None, /) -> Tensor:
        logits, targets = outputs(_outputs(apply, params, batch.x, perturbation), batch)
        if perturbation is not None and perturbation.smoothing is not None:
            present = (batch.y >= 0).to(logits.dtype)
            even = present / present.sum(-1, keepdim=True)
            targets = targets + perturbation.smoothing * (even - targets)
        return entropy(logits, targets)

    def scores(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, targets = outputs(predict(params, batch.x), batch)
        return entropy(logits, targets), _accuracy(logits, targets.argmax(-1))

    def errors(params: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, targets = outputs(predict(params, batch.x), batch)
        return 1 - (logits.softmax(-1) * targets).sum(-1).mean(), _accuracy(logits, targets.argmax(-1))

    return Objective(cross_entropy, scores, scores if outer == "loss" else errors)


def weighted_loss(apply: Callable[..., Tensor], kind: Kind) -> TrainingLoss:
    """The mean loss of a batch in which an example counts by its weight.

    Args:
        apply: see `objective_of`.
        kind: of the task. The last column of a batch's targets [examples, targets + 1] holds positive weights, the
            others the index of the class as a float, or values.
    """

    def each(outputs: Tensor, targets: Tensor, smoothing: Tensor | float | None) -> Tensor:
        if kind is Kind.regression:
            return (outputs - targets).square().mean(-1)
        logs, share = outputs.log_softmax(-1), 0.0 if smoothing is None else smoothing
        return (share - 1) * logs.gather(-1, targets.long()).squeeze(-1) - share * logs.mean(-1)

    def loss(params: Params, batch: Batch, perturbation: Perturbation | None = None, /) -> Tensor:
        targets, weights = batch.y[:, :-1], batch.y[:, -1]
        smoothing = None if perturbation is None else perturbation.smoothing
        losses = each(_outputs(apply, params, batch.x, perturbation), targets, smoothing)
        return (losses * weights).sum() / weights.sum()

    return loss


def _outputs(apply: Callable[..., Tensor], params: Params, x: Tensor, perturbation: Perturbation | None) -> Tensor:
    if perturbation is None or perturbation.hidden is None:
        return apply(params, x)
    return apply(params, x, hidden=perturbation.hidden)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels).to(logits.dtype).mean()
