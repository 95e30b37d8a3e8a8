"""What is meta-trained on what: everything that stays the same during meta-training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from metaopt.inner.hypergradient import HypergradientMethod
from metaopt.models.model import Model
from metaopt.models.objective import Inductive, Objective
from metaopt.tasks.family import TaskFamily
from metaopt.types import CPU


@dataclass(frozen=True)
class InnerProblem:
    """Training on a task, and how to differentiate through it.

    Attributes:
        family: the tasks.
        model: the network that each task trains.
        objective: its loss and scores.
        horizon: number of inner steps.
        batch_size: examples in a minibatch; None: the whole support set.
        hypergradient: the way to the hypergradient.
        chunk: tasks that are trained side by side.
        dtype: of parameters, tasks and draws.
        device: where these are; tasks and draws are sampled on the CPU and then moved there.
        inductive: scores by the batch statistics of other inputs; None where the model has no batch statistics.
        horizons: of which each iteration of meta-training draws one in place of `horizon`; empty: it is always that.
        loss_noise: whether random numbers enter the inner losses.
        progressive: whether support examples join training one part after the other; see `progressive_order`.
    """

    family: TaskFamily
    model: Model
    objective: Objective
    horizon: int
    batch_size: int | None
    hypergradient: HypergradientMethod
    chunk: int = 64
    dtype: torch.dtype = torch.float32
    device: torch.device = CPU
    inductive: Inductive | None = None
    horizons: tuple[int, ...] = ()
    loss_noise: bool = False
    progressive: bool = False

    @property
    def longest(self) -> int:
        """The longest horizon of meta-training."""
        return max(self.horizons, default=self.horizon)


def horizons_in_words(horizons: Sequence[int]) -> str:
    """ "horizon 50", or "horizons 25, 50, 100"."""
    return f"horizon{'s' if len(horizons) > 1 else ''} {', '.join(map(str, horizons))}"


@dataclass(frozen=True)
class OuterSettings:
    """Meta-training.

    Attributes:
        iterations: number of outer steps.
        meta_batch: tasks in each.
        lr: Adam's rate on the unconstrained hyperparameters.
        init_lr: Adam's rate on a learned initialisation; None: the same as `lr`.
        lr_schedule: `constant`, or `cosine` from the full rate to zero.
        clip: largest global norm of the mean hypergradient; None: no clipping.
        validate_every: iterations between meta-validations.
        validation_tasks: number of fixed meta-validation tasks.
        select: the policy that is kept: the `best` by meta-validation, or the `last`, where there are too few
            meta-validation tasks to choose by.
        patience: meta-validations without improvement after which meta-training stops; None: never.
        checkpoint_every: iterations between checkpoints.
    """

    iterations: int = 1000
    meta_batch: int = 16
    lr: float = 0.02
    init_lr: float | None = None
    lr_schedule: Literal["constant", "cosine"] = "cosine"
    clip: float | None = 10.0
    validate_every: int = 50
    validation_tasks: int = 64
    select: Literal["best", "last"] = "best"
    patience: int | None = None
    checkpoint_every: int = 50
