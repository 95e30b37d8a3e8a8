"""Meta-training: sample, differentiate, clip, step, validate, log, save."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.errors import MetaTrainingError
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws, draw
from metaopt.inner.hypergradient import Hypergradients
from metaopt.outer.metrics import Record
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.state import MetaState
from metaopt.trees import cloned
from metaopt.types import Split, TaskBatch

HOPELESS = 20
"""Iterations in a row without any finite hypergradient after which meta-training gives up."""


class Validation(NamedTuple):
    """The fixed meta-validation tasks, with the randomness of training on them."""

    tasks: TaskBatch
    draws: Draws


def meta_train(
    problem: InnerProblem,
    settings: OuterSettings,
    state: MetaState,
    validation: Validation,
    log: Callable[[Record], None],
    save: Callable[[MetaState], None],
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Meta-trains from where `state` stands, and leaves `state` where it ends; `state.best` is the result.

    Args:
        problem: what is trained.
        settings: how long and how fast.
        state: changed in place.
        validation: what decides which policy is best.
        log: gets a record after each iteration (kind `meta_train`) and each meta-validation (`meta_validation`).
        save: called when a checkpoint is due, and at the end.
        stop: asked after each iteration; true ends the loop early, after a checkpoint.

    Returns:
        Whether meta-training is finished; false when `stop` ended it.

    Raises:
        MetaTrainingError: no task had a finite hypergradient in 20 iterations on end.
    """
    if state.iteration == 0:
        log(validate(problem, state, validation))
    while state.iteration < settings.iterations and not state.finished:
        tasks, draws = sample(problem, "meta_train", settings.meta_batch, state.generator)
        found = problem.hypergradient(state.policy, problem.objective, tasks, draws, problem.horizon)
        log(outer_step(state, settings, found))
        state.iteration += 1
        if state.iteration % settings.validate_every == 0 or state.iteration == settings.iterations:
            log(validate(problem, state, validation))
            state.finished = settings.patience is not None and state.stale >= settings.patience
        if stop():
            save(state)
            return False
        if state.iteration % settings.checkpoint_every == 0:
            save(state)
    state.finished = True
    save(state)
    return True


def sample(problem: InnerProblem, split: Split, n: int, generator: torch.Generator) -> tuple[TaskBatch, Draws]:
    """Tasks of a split and the randomness of training on them, both from `generator`."""
    tasks = problem.family.sample(split, n, generator)
    n_support = tasks.support.x.shape[1]
    return tasks, draw(problem.model.shapes, n, problem.horizon, problem.batch_size, n_support, generator)


def outer_step(state: MetaState, settings: OuterSettings, found: Hypergradients) -> Record:
    """Moves the policy along the mean hypergradient of the tasks for which all is finite.

    A meta-batch of which nothing is left, or of which the mean overflows, moves nothing.
    """
    kept = torch.isfinite(found.flat).all(1) & torch.isfinite(found.loss)
    mean = found.flat[kept].mean(0)
    norm = torch.linalg.vector_norm(mean)
    dropped = int((~kept).sum())
    state.dropped += dropped
    record: Record = {"kind": "meta_train", "iteration": state.iteration + 1, "dropped": dropped}
    if not torch.isfinite(norm):
        state.dropped_in_a_row += 1
        if state.dropped_in_a_row >= HOPELESS:
            raise MetaTrainingError(
                f"no task had a finite loss and hypergradient in {HOPELESS} iterations on end, at iteration "
                f"{state.iteration + 1}; lower outer.lr, policy.lr.value or inner.horizon"
            )
        return {**record, "loss": None, "accuracy": None, "support_loss": None, "hypergradient_norm": None}
    state.dropped_in_a_row = 0
    rate = rate_factor(settings, state.iteration)
    for group in state.optimizer.param_groups:
        group["lr"] = group["full_lr"] * rate
    apply_gradient(state, mean * clip_factor(norm, settings.clip))
    return {
        **record,
        "loss": _mean(found.loss[kept]),
        "accuracy": _mean(found.accuracy[kept]),
        "support_loss": _mean(found.support_loss[kept]),
        "hypergradient_norm": float(norm),
        "lr_factor": rate,
    }


def apply_gradient(state: MetaState, gradient: Tensor) -> None:
    """One step of the outer optimizer along a gradient, [numbers] in the order of the policy's parameters."""
    for group in state.optimizer.param_groups:
        (vector,) = group["params"]
        vector.grad = gradient[slice(*group["part"])]
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


def rate_factor(settings: OuterSettings, iteration: int) -> float:
    """The share of the full outer rate at an iteration, counted from 0."""
    if settings.lr_schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * iteration / settings.iterations))


def clip_factor(norm: Tensor, limit: float | None) -> float:
    """What to multiply a gradient with so that its global norm is at most `limit`."""
    if limit is None or norm <= limit:
        return 1.0
    return float(limit / norm)


def validate(problem: InnerProblem, state: MetaState, validation: Validation) -> Record:
    """Trains on the fixed meta-validation tasks and remembers the policy if it is the best so far.

    A task on which training diverges counts as its untrained network.
    """
    horizon = problem.horizon
    tasks, draws = validation
    scores = adapt(state.policy, problem.objective, tasks, draws, horizon, on="query", chunk=problem.chunk)
    diverged = ~torch.isfinite(scores.loss[:, -1])
    loss = _mean(torch.where(diverged, scores.loss[:, 0], scores.loss[:, -1]))
    accuracy = _mean(torch.where(diverged, scores.accuracy[:, 0], scores.accuracy[:, -1]))
    state.stale += 1
    if loss < state.best_loss:
        state.best = cloned(dict(state.policy.named_parameters()))
        state.best_loss, state.best_iteration, state.stale = loss, state.iteration, 0
    return {
        "kind": "meta_validation",
        "iteration": state.iteration,
        "loss": loss,
        "accuracy": accuracy,
        "diverged": int(diverged.sum()),
        "best_iteration": state.best_iteration,
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
