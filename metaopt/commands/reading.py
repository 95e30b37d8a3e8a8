"""What a policy has learned, and what it does on tasks that it has not seen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from metaopt.config.build import generator
from metaopt.inner.trace import trace_multipliers
from metaopt.outer.loop import sample
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy
from metaopt.policies.reading import PolicyReading, read_policy
from metaopt.types import Split

TRACED = 32
"""Tasks that show what a policy does at each step."""


def reading_on(problem: InnerProblem, policy: Policy, split: Split, seed: int) -> PolicyReading:
    """A policy's reading; where its strengths depend on the task, with what it makes of them on tasks of a split.

    Args:
        problem: what is trained.
        policy: the policy.
        split: where the tasks come from.
        seed: of the tasks and of the randomness of their training.
    """
    reading = read_policy(policy, problem.family.spec.input_shape)
    if policy.settings.rule == "strengths":
        return reading
    tasks, draws = sample(problem, split, TRACED, generator(seed, "meta_test"))
    found = trace_multipliers(policy, problem.objective, tasks, draws, problem.horizon)
    multipliers: dict[str, dict[str, np.ndarray]] = {}
    for quantity, tensors in found.items():
        roles = defaultdict(list)
        for name, factors in tensors.items():
            roles[problem.model.roles.get(name, name)].append(factors.double().cpu().numpy())
        multipliers[quantity] = {role: np.exp(np.mean(np.log(of_role), axis=0)) for role, of_role in roles.items()}
    return replace(reading, multipliers=multipliers)
