"""Training without differentiating through it: what a policy or a baseline does to a task that it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, take_draws, task_dims
from metaopt.inner.examine import needs_of
from metaopt.inner.unroll import training
from metaopt.models.objective import Inductive, Objective
from metaopt.policies.rule import Learner, LossNoise
from metaopt.trees import chunks, count_tasks, take_tasks
from metaopt.types import Batch, Params, TaskBatch


class Adaptation(NamedTuple):
    """Scores along the training of each task.

    Attributes:
        loss: [tasks, points].
        accuracy: [tasks, points]; NaN for regression.
        inductive: the same by the batch statistics of the support sets; None where that was not asked for.
    """

    loss: Tensor
    accuracy: Tensor
    inductive: Adaptation | None = None


def adapt(
    learner: Learner,
    objective: Objective,
    tasks: TaskBatch,
    draws: Draws,
    horizon: int,
    on: Literal["query", "test"] = "test",
    record: Sequence[int] | None = None,
    chunk: int = 64,
    progress: Callable[[int], None] | None = None,
    inductive: Inductive | None = None,
) -> Adaptation:
    """Trains on each task's support set and scores on another set.

    Args:
        learner: where to start and how to step.
        objective: losses and scores of the model.
        tasks: [tasks] of them.
        draws: the randomness of their training.
        horizon: number of inner steps.
        on: the set to score on.
        record: after how many steps to score, each from 0 to the horizon; default: these two.
        chunk: tasks that are trained side by side; bounds the memory. 1 trains task by task without `vmap`, as torch's
            own optimizers need it.
        progress: called with the number of tasks that were finished since the last call.
        inductive: score besides by the batch statistics of the whole support set, so that a prediction depends on no
            other example that is scored. Training itself is the same.

    Returns:
        Losses and accuracies, one point for each distinct entry of `record`, in increasing order.
    """
    needs = needs_of(learner, objective, tasks, draws)
    draws, chunk = needs.given(draws), needs.size(chunk)
    points = frozenset((0, horizon) if record is None else record)

    def train(
        noise: Params, order: Tensor | None, loss_noise: LossNoise, support: Batch, scored: Batch
    ) -> tuple[Tensor, ...]:
        ways = [objective.scores] if inductive is None else [objective.scores, inductive(support.x)]
        moments = training(learner(noise), objective.loss, support, order, horizon, loss_noise)
        scores = [
            [score for way in ways for score in way(now.params, scored)]
            for step, now in enumerate(moments)
            if step in points
        ]
        return tuple(torch.stack(each) for each in zip(*scores, strict=True))

    side_by_side = torch.func.vmap(train, in_dims=(*task_dims(draws), 0, 0))
    results: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for group in chunks(count_tasks(tasks), chunk):
            part, some = take_tasks(tasks, group), take_draws(draws, group)
            scored = part.query if on == "query" else part.test
            if chunk > 1:
                results.append(side_by_side(*some, part.support, scored))
            else:
                task, alone = take_tasks(part, 0), take_draws(some, 0)
                found = train(*alone, task.support, task.query if on == "query" else task.test)
                results.append(tuple(each[None] for each in found))
            if progress is not None:
                progress(count_tasks(part))
    loss, accuracy, *by_support = (torch.cat(each) for each in zip(*results, strict=True))
    return Adaptation(loss, accuracy, Adaptation(by_support[0], by_support[1]) if by_support else None)
