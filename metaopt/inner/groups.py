"""What all ways to the hypergradient share: groups of tasks, one after the other, and a program for each policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.examine import Needs
from metaopt.inner.hypergradient import Hypergradients, joined
from metaopt.inner.program import Data, Program
from metaopt.inner.workers import spread
from metaopt.models.objective import Objective
from metaopt.policies.policy import Policy
from metaopt.trees import chunks, count_tasks, take_tasks
from metaopt.types import Batch, TaskBatch

T = TypeVar("T")


class Group(NamedTuple):
    """Some tasks of a meta-batch, as a program takes them.

    Attributes:
        hyper: the policy's parameters, [numbers].
        data: what their inner loops read.
        query: what their outer losses are measured on.
    """

    hyper: Tensor
    data: Data
    query: Batch


class PerPolicy(Generic[T]):
    """Something that is made for a policy and an objective, and kept until another policy comes: a run has one.

    The same policy for trainings of another length is no other.
    """

    def __init__(self, make: Callable[[Policy, Objective], T]) -> None:
        self._make = make
        self._last: tuple[Policy, Objective, T] | None = None

    def __call__(self, policy: Policy, objective: Objective) -> T:
        """What was made last, or is made now."""
        if self._last is None or not self._last[0].is_but_for_span(policy) or self._last[1] != objective:
            self._last = policy, objective, self._make(policy, objective)
        return self._last[2]


def in_groups(
    program: Program,
    span: int,
    tasks: TaskBatch,
    draws: Draws,
    size: int,
    differentiate: Callable[[Group], tuple[Tensor, ...]],
    needs: Needs,
    workers: int = 1,
) -> Hypergradients:
    """The hypergradients of a meta-batch, group by group.

    Args:
        program: the training.
        span: how many steps the policy takes it to last.
        tasks: [tasks] of them.
        draws: the randomness of their training.
        size: tasks in a group.
        differentiate: group -> hypergradients, [tasks, numbers] or summed [numbers], query losses, query accuracies and
            support losses.
        needs: what the training asks for; see `needs_of`.
        workers: threads among which the groups are divided; see `spread`.
    """
    hyper, n_tasks = program.hyper_vector(), count_tasks(tasks)
    draws, size = needs.given(draws), needs.size(size)

    def group(index: slice) -> Group:
        whole = n_tasks <= size
        some, part = (draws, tasks) if whole else (take_draws(draws, index), take_tasks(tasks, index))
        noise = program.noise_vectors(some.noise)
        spans = noise.new_full((len(noise),), span, dtype=torch.int64)
        return Group(hyper, Data(noise, *part.support, some.order, spans, *some.loss), part.query)

    def found(one: Group) -> Hypergradients:
        with torch.no_grad():  # which each thread has of its own
            flat, loss, accuracy, support_loss = differentiate(one)
        return Hypergradients(torch.atleast_2d(flat), program.hyper, loss, accuracy, support_loss)

    with torch.no_grad():
        return joined(spread(found, [group(index) for index in chunks(n_tasks, size)], workers))
