"""Many trainings side by side, each on a task and with hyperparameters of its own: what makes search quick."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, take_draws, task_dims
from metaopt.inner.examine import needs_of
from metaopt.inner.unroll import unroll
from metaopt.models.objective import Objective
from metaopt.policies.rule import LossNoise, Start
from metaopt.trees import chunks, count_tasks, take_tasks
from metaopt.types import Batch, Params, TaskBatch

Configured: TypeAlias = Callable[[Params, Params], Start]
"""(hyperparameters of one training, noise) -> Start: a learner that is told its hyperparameters."""


class TrialScores(NamedTuple):
    """Scores at the end of each training, [trainings] each; accuracies of a regression are NaN.

    Attributes:
        query_loss, query_accuracy: on the query set, which chooses.
        test_loss, test_accuracy: on the test set, which no choice may look at.
    """

    query_loss: Tensor
    query_accuracy: Tensor
    test_loss: Tensor
    test_accuracy: Tensor


def train_trials(
    configured: Configured,
    numbers: Params,
    objective: Objective,
    tasks: TaskBatch,
    draws: Draws,
    horizon: int,
    chunk: int = 64,
    index: Tensor | None = None,
) -> TrialScores:
    """Trains tasks, each with hyperparameters of its own.

    Args:
        configured: where to start and how to step, given hyperparameters.
        numbers: hyperparameters, [trainings, *] each.
        objective: losses and scores of the model.
        tasks: what is trained on, [tasks].
        draws: the randomness of each task's training.
        horizon: number of inner steps; 0 scores the start.
        chunk: trainings side by side; bounds the memory.
        index: which task each training is on, int64 [trainings]; None: each task once, in order.

    Returns:
        Scores that do not depend on what else is trained beside a task, unless in the last bits.
    """

    def train(
        own: Params,
        noise: Params,
        order: Tensor | None,
        loss_noise: LossNoise,
        support: Batch,
        query: Batch,
        test: Batch,
    ) -> tuple[Tensor, ...]:
        params, _ = unroll(configured(own, noise), objective.loss, support, order, horizon, loss_noise)
        return (*objective.scores(params, query), *objective.scores(params, test))

    first = {name: tensor[0] for name, tensor in numbers.items()}
    needs = needs_of(partial(configured, first), objective, tasks, draws)
    draws, chunk = needs.given(draws), needs.size(chunk)
    side_by_side = torch.func.vmap(train, in_dims=(0, *task_dims(draws), 0, 0, 0))
    found = []
    with torch.no_grad():
        for group in chunks(count_tasks(tasks) if index is None else len(index), chunk):
            own = {name: tensor[group] for name, tensor in numbers.items()}
            rows = group if index is None else index[group]
            some, part = take_draws(draws, rows), take_tasks(tasks, rows)
            if needs.alone:
                own = {name: tensor[0] for name, tensor in own.items()}
                found.append([score[None] for score in train(own, *take_draws(some, 0), *take_tasks(part, 0))])
            else:
                found.append(side_by_side(own, *some, *part))
    return TrialScores(*(torch.cat(each) for each in zip(*found, strict=True)))
