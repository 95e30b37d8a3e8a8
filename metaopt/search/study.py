"""One search on one task: asked for a point, told what it is worth, interrupted and gone on with."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from metaopt.search.samplers import Method, make_sampler
from metaopt.search.space import Space

WORKER, TOLD = "worker", "told"
"""Attributes of a trial: who is at it, and what it was found to be worth besides its value."""
PROPOSED = "gp:relative_params"
"""Where Optuna's Gaussian process keeps what it proposes, for processes beside it."""


class Told(NamedTuple):
    """What a trial was found to be worth.

    Attributes:
        value: validation loss, finite.
        diverged: whether training diverged.
        test_loss, test_accuracy: of the trained network; None where the trial was never its study's answer.
        steps: inner steps spent.
        seconds: spent, on proposing it and on training.
    """

    value: float
    diverged: bool
    test_loss: float | None
    test_accuracy: float | None
    steps: int
    seconds: float


class TaskStudy:
    """A study of Optuna's, a trial at a time.

    Everything that is known of it lies in its storage. A trial that a killed process left half-done is done again.

    Args:
        name: of the study in its storage, which may hold others.
        method: see `METHODS`.
        space: what is searched.
        trials: how many trials to make.
        seed: of all that is proposed.
        storage: see `open_storage`; None: in memory.
    """

    def __init__(
        self, name: str, method: Method, space: Space, trials: int, seed: int, storage: BaseStorage | None = None
    ) -> None:
        self._method, self._space, self._trials = method, space, trials
        self._distributions = dict(space.distributions)
        self._seed = seed
        self._study = optuna.create_study(
            study_name=name, storage=storage, direction="minimize", load_if_exists=True, sampler=self._sampler(0)
        )
        if not self._study.get_trials(deepcopy=False):
            for point in space.first:
                self._study.enqueue_trial(dict(point))
        self._trial: Trial | None = None
        self._best = float("inf")

    def told(self) -> list[Told]:
        """What the finished trials are worth, in the order in which they were begun."""
        return [Told(_value(trial), *trial.user_attrs[TOLD]) for trial in self._finished()]

    def points(self) -> list[dict[str, Any]]:
        """The finished trials' points, in that order."""
        return [trial.params for trial in self._finished()]

    def ask(self) -> Mapping[str, Any] | None:
        """The next point, or None when all trials are done."""
        finished = self._finished()
        if len(finished) >= self._trials:
            return None
        number = self._left_behind()
        if number is None:
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False, states=BEGUN)))
            self._trial = self._study.ask()
        else:
            self._study.sampler = self._sampler(number)
            self._trial = self._begun_again(self._study.get_trials(deepcopy=False)[number])
        self._trial.set_user_attr(WORKER, _this_process())
        # Not those that came later: a trial that is done again is the answer after fewer trials than they are.
        earlier = (_value(trial) for trial in finished if trial.number < self._trial.number)
        self._best = min(earlier, default=float("inf"))
        return {name: _suggest(self._trial, name, kind) for name, kind in self._distributions.items()}

    def improves(self, value: float) -> bool:
        """Whether the trial that was asked for would, with this value, be the answer after as many trials."""
        return value < self._best

    def tell(self, told: Told) -> None:
        """Ends the trial that was asked for."""
        trial = self._trial
        assert trial is not None, "ask before telling"
        # A grid that is through wants to stop a loop that is not Optuna's, and does not know trials that it has not
        # proposed; another process may have been quicker with a trial that was left behind.
        with suppress(RuntimeError, KeyError):
            trial.set_user_attr(TOLD, list(told[1:]))
            self._study.tell(trial, told.value, skip_if_finished=True)

    def _finished(self) -> list[FrozenTrial]:
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted(done, key=lambda trial: trial.number)[: self._trials]

    def _left_behind(self) -> int | None:
        """Number of a trial that was begun by a process of this machine that is no more."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _is_alive(trial.user_attrs.get(WORKER)):
                return trial.number
        return None

    def _begun_again(self, left: FrozenTrial) -> Trial:
        """A trial that was left behind, with the sampler as it was then: what else is drawn is what would have been.

        Parameters that are in the storage are not drawn again, which would leave the sampler's random numbers behind.
        And what the Gaussian process wrote of its own proposal must not look like that of another process.
        """
        for key in left.system_attrs:
            if key.startswith(PROPOSED):
                self._study._storage.set_trial_system_attr(left._trial_id, key, "")
        trial = Trial(self._study, left._trial_id)
        for name in left.params:
            if name not in trial.relative_params and name not in left.system_attrs.get("fixed_params", {}):
                self._study.sampler.sample_independent(self._study, left, name, self._distributions[name])
        return trial

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        return make_sampler(self._method, self._distributions, self._trials, self._seed, number)


BEGUN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None, "a finished trial has a value"
    return trial.value


def _this_process() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _is_alive(worker: str | None) -> bool:
    """Whether a trial may still be at work: in another process of this machine that runs, or on another machine."""
    host, _, pid = (worker or "").partition(" ")
    if not pid or worker == _this_process():
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


def _suggest(trial: Trial, name: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    assert isinstance(kind, FloatDistribution), "a space has no other kinds"
    return trial.suggest_float(name, kind.low, kind.high, log=kind.log)
