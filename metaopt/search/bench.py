"""Trains what searches propose: for each candidate a validation loss, and a test score for what becomes an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from metaopt.evaluation.divergence import LARGEST_LOSS as LARGEST
from metaopt.inner.draws import Draws, take_draws
from metaopt.inner.trials import TrialScores, train_trials
from metaopt.models.model import Model
from metaopt.models.variant import variant
from metaopt.policies.rule import Start, UpdateRule
from metaopt.search.folds import folds_of
from metaopt.search.setting import Changes, Prepared, Setting, Trainer, conventional_start, prepared, trainer
from metaopt.search.space import Candidate, Kind
from metaopt.trees import cast, count_tasks, stacked
from metaopt.types import Params, TaskBatch

WORST = 2.0
"""A training that ends at a validation loss of more than so many times the untrained network's has diverged, as one has
that ends at none at all. It counts as exactly that: beyond it nothing is worth telling apart, and samplers that model
the loss would be led by it."""
HOPELESS = 100.0
"""Likewise for a test loss: some networks fit all validation examples and are beyond all bounds on a test example."""
UNMOVED = UpdateRule(lambda params: {}, lambda params, grads, state, step, loss=None: (params, state))


class Request(NamedTuple):
    """A candidate to be trained on a task, which is named by its index."""

    task: int
    candidate: Candidate


class Result(NamedTuple):
    """What a candidate is worth on its task.

    Attributes:
        value: validation loss, finite.
        diverged: whether training did, as the validation loss shows, or the test loss.
        test: test loss and accuracy, those of the untrained network where training diverged; None: not asked for. The
            accuracy of a regression is NaN.
        steps: inner steps spent.
        seconds: share of the time that training took.
    """

    value: float
    diverged: bool
    test: tuple[float, float] | None
    steps: int
    seconds: float


class Bench:
    """Trains candidates side by side, grouped by what changes the shapes of their computation.

    Args:
        setting: what all share.
        tasks: with padding still marked, [tasks].
        draws: the comparison's, for these tasks.
        first: index of the first of the tasks among all tasks of the search.
    """

    def __init__(self, setting: Setting, tasks: TaskBatch, draws: Draws, first: int = 0) -> None:
        self._setting = setting
        self._whole = tasks, draws
        self._names = [f"task {first + i}" for i in range(count_tasks(tasks))]
        self._folds = None if setting.folds is None else folds_of(tasks, setting.task, setting.folds, setting.seed)
        self._sets: dict[tuple[object, ...], Prepared] = {}
        self._models: dict[Changes, Model] = {(): setting.model}
        self._trainers: dict[tuple[object, ...], Trainer] = {}
        untrained = self._untrained(by_fold=False)
        by_task = untrained if self._folds is None else self._untrained(by_fold=True)
        losses = _finite(by_task.query_loss).reshape(count_tasks(tasks), -1).mean(1)
        self._cap = np.clip(WORST * losses, 1e-12, LARGEST)
        self._at_start = list(zip(_finite(untrained.test_loss), _array(untrained.test_accuracy), strict=True))

    def run(self, requests: Sequence[Request], wanted: Callable[[int, float], bool]) -> list[Result]:
        """Trains all candidates.

        Args:
            requests: what to train.
            wanted: (index of a request, its value) -> whether it needs a test score.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.candidate.group, []).append(i)
        results: dict[int, Result] = {}
        for rows in groups.values():
            began = time.perf_counter()
            scored = (self._held_out if self._folds is None else self._cross_validated)(rows, requests, wanted)
            seconds = (time.perf_counter() - began) / len(rows)
            results |= {i: result._replace(seconds=seconds) for i, result in zip(rows, scored, strict=True)}
        return [results[i] for i in range(len(requests))]

    def _held_out(self, rows: list[int], requests: Sequence[Request], _: object) -> list[Result]:
        """Scored on the query set, and in the same breath on the test set, which chooses nothing."""
        chosen = [requests[i] for i in rows]
        scores = self._train(chosen)
        found = zip(chosen, *map(_array, (scores.query_loss, scores.test_loss, scores.test_accuracy)), strict=True)
        return [self._result(r.task, loss, (test, accuracy), 1) for r, loss, test, accuracy in found]

    def _cross_validated(
        self, rows: list[int], requests: Sequence[Request], wanted: Callable[[int, float], bool]
    ) -> list[Result]:
        """Scored by its folds, and only then, where it is an answer, trained on all and scored on the test set."""
        assert self._folds is not None, "only called with folds"
        k = self._folds.each
        folded = [Request(k * requests[i].task + fold, requests[i].candidate) for i in rows for fold in range(k)]
        losses = _array(self._train(folded, by_fold=True).query_loss).reshape(-1, k).mean(1)
        results = [self._result(requests[i].task, loss, None, k) for i, loss in zip(rows, losses, strict=True)]
        answers = [j for j, i in enumerate(rows) if wanted(i, results[j].value)]
        if answers:
            scores = self._train([requests[rows[j]] for j in answers])
            for j, test, accuracy in zip(answers, _array(scores.test_loss), _array(scores.test_accuracy), strict=True):
                results[j] = self._result(requests[rows[j]].task, losses[j], (test, accuracy), k + 1)
        return results

    def _result(self, task: int, loss: float, test: tuple[float, float] | None, trainings: int) -> Result:
        cap = float(self._cap[task])
        worst = not loss <= cap  # also where it is NaN
        diverged = worst or (test is not None and not test[0] <= HOPELESS * self._at_start[task][0])
        if test is not None and diverged:
            test = self._at_start[task]
        score = None if test is None else (float(test[0]), float(test[1]))
        return Result(rounded(cap if worst else float(loss)), diverged, score, trainings * self._setting.horizon, 0)

    def _train(self, requests: Sequence[Request], by_fold: bool = False) -> TrialScores:
        """Trains candidates of one group on the tasks, or on the folds, that the requests name."""
        setting = self._setting
        kind, batch_size, changes = requests[0].candidate.group
        model = self._model(changes)
        tasks, draws = self._set(model, batch_size, changes, by_fold, kind)
        index = torch.tensor([request.task for request in requests], device=setting.device)
        numbers = cast(stacked([request.candidate.numbers for request in requests]), setting.dtype)
        if (kind, changes) not in self._trainers:
            self._trainers[kind, changes] = trainer(setting, kind, model)
        configured, objective = self._trainers[kind, changes]
        return train_trials(
            configured,
            {name: tensor.to(setting.device) for name, tensor in numbers.items()},
            objective,
            tasks,
            draws,
            setting.horizon,
            setting.chunk,
            index,
        )

    def _untrained(self, by_fold: bool) -> TrialScores:
        setting = self._setting
        tasks, draws = self._set(setting.model, None, (), by_fold, "policy")
        start = conventional_start(setting, setting.model)
        none = {"none": torch.zeros(count_tasks(tasks), device=setting.device)}

        def at_start(_: Params, noise: Params) -> Start:
            return Start(start(noise), UNMOVED)

        return train_trials(at_start, none, setting.objective(setting.model), tasks, draws, 0, setting.chunk)

    def _set(self, model: Model, batch_size: int | None, changes: Changes, by_fold: bool, kind: Kind) -> Prepared:
        setting = self._setting
        progressive = kind == "policy" and setting.policy.progressive
        key = (batch_size, changes, by_fold, progressive)
        if key not in self._sets:
            (tasks, draws), names = self._whole, self._names
            if by_fold and self._folds is not None:
                k, tasks = self._folds.each, self._folds.tasks
                rows = torch.arange(count_tasks(self._whole[0])).repeat_interleave(k)
                draws = take_draws(draws, rows)._replace(order=None)
                names = [f"{name} fold {fold}" for name in names for fold in range(k)]
            self._sets[key] = prepared(setting, model, batch_size, tasks, draws, names, not by_fold, progressive)
        return self._sets[key]

    def _model(self, changes: Changes) -> Model:
        if changes not in self._models:
            self._models[changes] = variant(self._setting.model, self._setting.task, dict(changes))
        return self._models[changes]


def rounded(loss: float) -> float:
    """Five significant digits, which do not depend on what else was trained beside, as the last bits of a loss do."""
    return float(f"{loss:.5g}")


def _array(scores: torch.Tensor) -> np.ndarray:
    return scores.double().cpu().numpy()


def _finite(losses: torch.Tensor) -> np.ndarray:
    return np.nan_to_num(_array(losses), nan=LARGEST, posinf=LARGEST).clip(max=LARGEST)
