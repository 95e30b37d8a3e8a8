"""What a rule does by itself while it trains: the strengths that it sets at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, task_dims
from metaopt.inner.unroll import exact_gradient, inner_step, minibatch, step_loss
from metaopt.models.objective import Objective
from metaopt.policies.rule import Learner, LossNoise
from metaopt.types import Batch, Params, TaskBatch


def trace_multipliers(
    learner: Learner, objective: Objective, tasks: TaskBatch, draws: Draws, horizon: int
) -> dict[str, Params]:
    """What a learner's rule multiplies its strengths with, at each step of training on each task.

    Args:
        learner: where to start and how to step.
        objective: losses of the model.
        tasks: [tasks] of them, all trained side by side.
        draws: the randomness of their training.
        horizon: number of inner steps.

    Returns:
        By quantity and parameter tensor [tasks, horizon]; empty for a rule whose strengths do not depend on the task.
    """

    def train(noise: Params, order: Tensor | None, loss_noise: LossNoise, support: Batch) -> dict[str, Params]:
        params, rule, inner = learner(noise)
        state = rule.init(params)
        seen: list[dict[str, Params]] = []
        for step in range(horizon):
            gradient = exact_gradient(step_loss(objective.loss, inner, loss_noise, step))
            params, state, _ = inner_step(gradient, rule, params, state, minibatch(support, order, step), step)
            assert rule.multipliers is not None, "checked before"
            seen.append(rule.multipliers(state))
        return {
            quantity: {name: torch.stack([at[quantity][name] for at in seen]) for name in own}
            for quantity, own in seen[0].items()
        }

    with torch.no_grad():
        if learner({name: draw[0] for name, draw in draws.noise.items()}).rule.multipliers is None:
            return {}
        return torch.func.vmap(train, in_dims=(*task_dims(draws), 0))(*draws, tasks.support)
