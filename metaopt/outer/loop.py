"""Meta-training: sample, differentiate, clip, step, validate, log, save."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.errors import MetaTrainingError
from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws, cast_draws, draw, lengthen_draws, take_draws
from metaopt.inner.hypergradient import Hypergradients, summed_if_finite
from metaopt.inner.padding import fit_to_width
from metaopt.outer.means import finite_means
from metaopt.outer.metrics import Record
from metaopt.outer.mixture import Mixture, Part, counts_of, parts_of
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.ranks import Alone, Ranks
from metaopt.outer.state import MetaState
from metaopt.policies.policy import Policy
from metaopt.tasks.family import check_words
from metaopt.trees import cast_tasks, cloned, count_tasks, take_tasks
from metaopt.types import Split, TaskBatch

HOPELESS = 20
"""Iterations in a row without any finite hypergradient after which meta-training gives up."""

ALONE = Alone()


class Validation(NamedTuple):
    """The fixed meta-validation tasks, with the randomness of training on them."""

    tasks: TaskBatch
    draws: Draws


def meta_train(
    problem: InnerProblem | Mixture,
    settings: OuterSettings,
    state: MetaState,
    validation: Validation | Sequence[Validation],
    log: Callable[[Record], None],
    save: Callable[[MetaState], None],
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> bool:
    """Meta-trains from where `state` stands, and leaves `state` where it ends; `state.best` is the result.

    In several processes each samples the whole meta-batch, so that all generators stay equal, and trains on its share.
    All take the same steps: records and checkpoints are the same in each, and only one of them needs to keep any.

    Args:
        problem: what is trained; of a mixture each meta-batch has its share of every part.
        settings: how long and how fast.
        state: changed in place.
        validation: what decides which policy is best; of a mixture one for each part.
        log: gets a record after each iteration (kind `meta_train`) and each meta-validation (`meta_validation`).
        save: called when a checkpoint is due, and at the end.
        stop: asked after each iteration; true, in any process, ends the loop early in all of them, after a checkpoint.
        ranks: the processes, all of which must call this with the same arguments; no more than tasks in a meta-batch,
            and in the share of each part of a mixture.

    Returns:
        Whether meta-training is finished; false when `stop` ended it.

    Raises:
        MetaTrainingError: no task had a finite hypergradient in 20 iterations on end, or another process is gone.
    """
    parts, counts = parts_of(problem, state.policy), counts_of(problem, settings.meta_batch)
    if state.iteration == 0:
        log(_validated(problem, settings, state, validation, ranks))
    while state.iteration < settings.iterations and not state.finished:
        horizon = draw_horizon(parts[0].problem, state.generator)
        now = [part.lasting(horizon) for part in parts]
        found = [differentiate(*both, state.generator, ranks) for both in zip(now, counts, strict=True)]
        record = outer_step(state, settings, found, ranks)
        log({**record, "horizon": horizon} if parts[0].problem.horizons else record)
        state.iteration += 1
        state.inner_steps += settings.meta_batch * horizon
        if state.iteration % settings.validate_every == 0 or state.iteration == settings.iterations:
            log(_validated(problem, settings, state, validation, ranks))
            state.finished = settings.patience is not None and state.stale >= settings.patience
        if ranks.any(stop()):
            save(state)
            return False
        if state.iteration % settings.checkpoint_every == 0:
            save(state)
    state.finished = True
    save(state)
    return True


def differentiate(part: Part, n: int, generator: torch.Generator, ranks: Ranks = ALONE) -> Hypergradients:
    """Hypergradients of this process's share of `n` meta-train tasks of a part."""
    problem = part.problem
    starts_at_noise = part.policy.settings.init.mode != "learned"
    tasks, draws = own_share(ranks, *sample(problem, "meta_train", n, generator, starts_at_noise))
    draws = lengthen_draws(draws, problem.longest)  # shapes stay, and with them what was compiled
    return summed_if_finite(problem.hypergradient, part.policy, problem.objective, tasks, draws, problem.horizon)


def draw_horizon(problem: InnerProblem, generator: torch.Generator) -> int:
    """The horizon of the next iteration: the problem's own, or one of several."""
    if not problem.horizons:
        return problem.horizon
    return problem.horizons[int(torch.randint(len(problem.horizons), (), generator=generator))]


def sample(
    problem: InnerProblem, split: Split, n: int, generator: torch.Generator, start_noise: bool = True
) -> tuple[TaskBatch, Draws]:
    """Tasks of a split and the randomness of training on them, both from `generator`, on the problem's device.

    Drawn on the CPU, so that equal seeds give equal tasks on every device. `start_noise`: see `draw`.
    """
    return ready(problem, *sample_raw(problem, split, n, generator, start_noise))


def sample_raw(
    problem: InnerProblem, split: Split, n: int, generator: torch.Generator, start_noise: bool = True
) -> tuple[TaskBatch, Draws]:
    """As `sample`, with padding still marked, in the family's own dtype and where the family makes its tasks."""
    tasks = problem.family.sample(split, n, generator)
    if problem.family.spec.vocabulary is not None:
        check_words(problem.family.name, tasks, problem.family.spec.vocabulary)
    n_support = tasks.support.x.shape[1]
    horizon, batch_size = problem.horizon, problem.batch_size
    extras = (problem.loss_noise, problem.progressive, start_noise)
    return tasks, draw(problem.model.shapes, n, horizon, batch_size, n_support, generator, *extras)


def ready(problem: InnerProblem, tasks: TaskBatch, draws: Draws) -> tuple[TaskBatch, Draws]:
    """What `sample_raw` gave, ready to be trained on: without padding, in the problem's dtype and on its device."""
    if problem.family.spec.padded and not problem.model.masks:
        tasks, draws = fit_to_width(tasks, draws, problem.model.input_layer)
    return cast_tasks(tasks, problem.dtype, problem.device), cast_draws(draws, problem.dtype, problem.device)


def own_share(ranks: Ranks, tasks: TaskBatch, draws: Draws) -> tuple[TaskBatch, Draws]:
    """Those tasks that are this process's, with their randomness."""
    if ranks.count == 1:
        return tasks, draws
    share = ranks.share(count_tasks(tasks))
    return take_tasks(tasks, share), take_draws(draws, share)


def outer_step(
    state: MetaState, settings: OuterSettings, found: Hypergradients | Sequence[Hypergradients], ranks: Ranks = ALONE
) -> Record:
    """Moves the policy along the mean hypergradient of the tasks, in all processes, for which all is finite.

    A meta-batch of which nothing is left, or of which the mean overflows, moves nothing.
    """
    mean = finite_means([found] if isinstance(found, Hypergradients) else found, ranks)
    norm = float(torch.linalg.vector_norm(mean.flat))
    state.dropped += mean.dropped
    record: Record = {"kind": "meta_train", "iteration": state.iteration + 1, "dropped": mean.dropped}
    if not math.isfinite(norm):
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
    factor = clip_factor(norm, settings.clip)
    apply_gradient(state, mean.flat if factor == 1 else mean.flat * factor)
    return {
        **record,
        "loss": mean.loss,
        "accuracy": mean.accuracy,
        "support_loss": mean.support_loss,
        "hypergradient_norm": norm,
        "lr_factor": rate,
    }


def apply_gradient(state: MetaState, gradient: Tensor) -> None:
    """One step of the outer optimizer along a gradient, [numbers] in the order of the policy's parameters."""
    for group in state.optimizer.param_groups:
        (vector,) = group["params"]
        vector.grad = gradient[slice(*group["part"])]
    state.optimizer.step()


def rate_factor(settings: OuterSettings, iteration: int) -> float:
    """The share of the full outer rate at an iteration, counted from 0."""
    if settings.lr_schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * iteration / settings.iterations))


def clip_factor(norm: float, limit: float | None) -> float:
    """What to multiply a gradient with so that its global norm is at most `limit`."""
    if limit is None or norm <= limit:
        return 1.0
    return limit / norm


def validate(
    problem: InnerProblem | Mixture,
    state: MetaState,
    validation: Validation | Sequence[Validation],
    ranks: Ranks = ALONE,
) -> Record:
    """Trains on the fixed meta-validation tasks and remembers the policy if it is the best so far.

    A task on which training diverges counts as its untrained network.
    """
    parts = parts_of(problem, state.policy)
    fixed = [validation] if isinstance(validation, Validation) else validation
    found = []
    for part, own in zip(parts, fixed, strict=True):
        scores = before_and_after(part.problem, part.policy, *own_share(ranks, *own))
        found.append(ranks.gather(scores, count_tasks(own.tasks)))
    by_part = {part.name: _mean(_final(scores)[0]) for part, scores in zip(parts, found, strict=True)}
    scores = torch.cat(found)
    loss, accuracy = _mean(_final(scores)[0]), float(_final(scores)[1].nanmean())  # a regression has no accuracy
    state.stale += 1
    if loss < state.best_loss:
        state.best = cloned(dict(state.policy.named_parameters()))
        state.best_loss, state.best_iteration, state.stale = loss, state.iteration, 0
    return {
        "kind": "meta_validation",
        "iteration": state.iteration,
        "loss": loss,
        "accuracy": accuracy,
        "diverged": int((~torch.isfinite(scores[:, 2])).sum()),
        "best_iteration": state.best_iteration,
        **({} if len(parts) == 1 else {f"loss_{name}": value for name, value in by_part.items()}),
    }


def _validated(
    problem: InnerProblem | Mixture,
    settings: OuterSettings,
    state: MetaState,
    validation: Validation | Sequence[Validation],
    ranks: Ranks,
) -> Record:
    """`validate`, and the present policy kept in place of the best where the settings say so."""
    record = validate(problem, state, validation, ranks)
    if settings.select == "best":
        return record
    state.best = cloned(dict(state.policy.named_parameters()))
    state.best_iteration = state.iteration
    return {**record, "best_iteration": state.iteration}


def before_and_after(problem: InnerProblem, policy: Policy, tasks: TaskBatch, draws: Draws) -> Tensor:
    """Query loss and accuracy before training and after it, [tasks, 4], float64; there may be no tasks."""
    if not count_tasks(tasks):
        return torch.zeros(0, 4, dtype=torch.float64, device=problem.device)
    # The best policy is the best by what hypergradients are of.
    objective = problem.objective._replace(scores=problem.objective.outer)
    scores = adapt(policy, objective, tasks, draws, problem.horizon, on="query", chunk=problem.chunk)
    ends = [(scores.loss[:, point], scores.accuracy[:, point]) for point in (0, -1)]
    return torch.stack([*ends[0], *ends[1]], 1).double()


def final_losses(scores: Tensor) -> Tensor:
    """Losses, [tasks], of what `before_and_after` gave; before, where training diverged."""
    return _final(scores)[0]


def _final(scores: Tensor) -> Tensor:
    """Losses and accuracies, [2, tasks], of what `before_and_after` gave; before, where training diverged."""
    return torch.where(~torch.isfinite(scores[:, 2]), scores[:, :2].T, scores[:, 2:].T)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
