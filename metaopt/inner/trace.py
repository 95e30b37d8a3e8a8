"""What a rule does by itself while it trains: the strengths that it sets at each step."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, take_draws, task_dims
from metaopt.inner.examine import needs_of
from metaopt.inner.unroll import training
from metaopt.models.objective import Objective
from metaopt.policies.rule import Learner, LossNoise
from metaopt.trees import count_tasks, stacked, take_tasks
from metaopt.types import Batch, Params, TaskBatch


def trace_multipliers(
    learner: Learner, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
) -> dict[str, Params]:
    """What a learner's rule multiplies its strengths with, at each step of training on each task.

    Args:
        learner: where to start and how to step.
        objective: losses of the model.
        tasks: [tasks] of them, trained side by side where the model allows it.
        draws: the randomness of their training.
        horizon: number of inner steps.

    Returns:
        By quantity and parameter tensor [tasks, horizon]; empty for a rule whose strengths do not depend on the task.
    """

    def train(noise: Params, order: Tensor | None, loss_noise: LossNoise, support: Batch) -> dict[str, Params]:
        start = learner(noise)
        multipliers = start.rule.multipliers
        assert multipliers is not None, "checked before"
        after_steps = islice(training(start, objective.loss, support, order, horizon, loss_noise), 1, None)
        seen = [multipliers(now.state) for now in after_steps]
        return {
            quantity: {name: torch.stack([at[quantity][name] for at in seen]) for name in own}
            for quantity, own in seen[0].items()
        }

    with torch.no_grad():
        if learner({name: draw[0] for name, draw in draws.noise.items()}).rule.multipliers is None:
            return {}
        needs = needs_of(learner, objective, tasks, draws)
        draws = needs.given(draws)
        if needs.alone:
            each = [train(*take_draws(draws, i), take_tasks(tasks, i).support) for i in range(count_tasks(tasks))]
            return {quantity: stacked([found[quantity] for found in each]) for quantity in each[0]}
        return torch.func.vmap(train, in_dims=(*task_dims(draws), 0))(*draws, tasks.support)
