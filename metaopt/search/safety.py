"""Negative transfer: tasks on which a policy does worse than a conventional setting, as validation sets show it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from metaopt.inner.draws import Draws
from metaopt.policies.baselines import RuleSettings
from metaopt.search.bench import Bench, Request
from metaopt.search.setting import Setting
from metaopt.search.space import Candidate
from metaopt.trees import count_tasks
from metaopt.types import Params, TaskBatch


class Safety(NamedTuple):
    """The better of two, task by task, chosen without a look at test sets.

    Attributes:
        worse: tasks on which the policy's validation loss is the higher one, bool [tasks].
        loss: test loss of the better one, [tasks].
        accuracy: its test accuracy, [tasks]; None for regression.
        diverged: whether its training diverged, bool [tasks].
        inner_steps: spent on both, over all tasks.
        seconds: likewise.
    """

    worse: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray | None
    diverged: np.ndarray
    inner_steps: int
    seconds: float


def better_of_two(setting: Setting, conventional: RuleSettings, tasks: TaskBatch, draws: Draws) -> Safety:
    """Trains each task with the policy and with a conventional setting, and keeps what validates better.

    Args:
        setting: how candidates are trained and validated; its policy is the one.
        conventional: its rival.
        tasks: with padding still marked, [tasks].
        draws: the comparison's.
    """
    bench = Bench(setting, tasks, draws)
    rival = Candidate("adam" if conventional.adaptive else "sgd", conventional.numbers(setting.horizon), None, ())
    unchanged: Params = {"lr": torch.ones((), dtype=torch.float64)}
    both = (Candidate("policy", unchanged, None, ()), rival)
    n = count_tasks(tasks)
    policy, other = (
        bench.run([Request(task, candidate) for task in range(n)], lambda _, __: True) for candidate in both
    )
    worse = np.array([one.value > two.value for one, two in zip(policy, other, strict=True)])
    better = [two if is_worse else one for is_worse, one, two in zip(worse, policy, other, strict=True)]
    scores = np.array([one.test for one in better], dtype=np.float64)
    return Safety(
        worse=worse,
        loss=scores[:, 0],
        accuracy=None if np.isnan(scores[:, 1]).any() else scores[:, 1],
        diverged=np.array([one.diverged for one in better]),
        inner_steps=sum(one.steps for one in (*policy, *other)),
        seconds=sum(one.seconds for one in (*policy, *other)),
    )
