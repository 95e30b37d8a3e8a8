"""The ways to search, all of them Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from zlib import crc32

import optuna
from optuna import samplers
from optuna.distributions import BaseDistribution

from metaopt.search.space import grid_of

Method = str
METHODS: dict[Method, str] = {
    "grid": "grid search",
    "random": "random search",
    "tpe": "tree-structured Parzen estimator",
    "gp": "Gaussian process, expected improvement",
    "cmaes": "CMA-ES",
    "genetic": "genetic algorithm (NSGA-II)",
}
"""What people call them."""
POPULATION = 20
"""Of the genetic algorithm: with the usual 50, a hundred trials would be two generations."""


def make_sampler(
    method: Method, distributions: Mapping[str, BaseDistribution], trials: int, seed: int, number: int
) -> samplers.BaseSampler:
    """The sampler that proposes one trial of a study.

    Each trial has a sampler of its own, which knows nothing but the study's finished trials and a seed. So a study that
    was interrupted goes on as if it had not been.

    Args:
        method: one of `METHODS`.
        distributions: of the space.
        trials: trials of the study, to which a grid is fitted. Where they are more than the grid's points, some points
            come again.
        seed: of the study.
        number: of the trial, from 0.
    """
    own = crc32(f"{seed} {number}".encode())
    makers: dict[Method, Callable[[], samplers.BaseSampler]] = {
        # The order of a grid is drawn from the seed, and must be the same for all of its trials.
        "grid": lambda: samplers.GridSampler(grid_of(distributions, trials), seed=seed),
        "random": lambda: samplers.RandomSampler(seed=own),
        # Multivariate, because learning rate, momentum and batch size trade off.
        "tpe": lambda: samplers.TPESampler(seed=own, multivariate=True),
        # Equal settings give equal losses: all randomness of training is drawn once for each task.
        "gp": lambda: samplers.GPSampler(seed=own, deterministic_objective=True),
        "cmaes": lambda: samplers.CmaEsSampler(seed=own, warn_independent_sampling=False),
        "genetic": lambda: samplers.NSGAIISampler(seed=own, population_size=POPULATION),
    }
    return makers[method]()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Neither a line for each trial nor a warning that a sampler is experimental; undone on leaving."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
