"""Tables that never were: random functions of random columns, with noise, as more tasks for meta-training.

In the manner of the priors on which tabular foundation models are trained (TabPFN; Hollmann et al., 2023), but simpler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from metaopt.tasks.tables.table import Column, RowSizes, Table, check_rows, sift

WIDEST = 40
"""Most columns of a table; their number is spread evenly on a logarithmic scale, from 2."""
MOST_CLASSES = 10
Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""[rows, columns] -> [rows, classes]: a row's class is where it is highest."""


def synthetic(n: int, sizes: RowSizes, seed: int) -> list[Table]:
    """Classification tables, each a group of its own.

    Columns are normal, uniform, correlated or clustered, and some of them are rounded to two or more values. Classes
    come from a linear function, a small network, a tree, or the nearest of a few points, of some of the columns; then
    some labels are replaced by random ones, from none to all of them.

    Args:
        n: number of tables; a few less where classes come out too rare.
        sizes: rows of a task; a table has twice as many.
        seed: the only source of randomness.
    """

    def made(i: int) -> Table:
        table = _table(f"synthetic{i}", 2 * sum(sizes), np.random.default_rng([seed, i]))
        check_rows(table, sizes)
        return table

    return sift(range(n), made, lambda i: f"synthetic{i}")[0]


def _table(name: str, rows: int, rng: np.random.Generator) -> Table:
    width = round(np.exp(rng.uniform(np.log(2), np.log(WIDEST))))
    classes = 2 if rng.random() < 0.5 else int(rng.integers(3, MOST_CLASSES + 1))
    x = _inputs(rows, width, rng)
    used = rng.permutation(width)[: int(rng.integers(min(2, width), width + 1))]
    scores = _score(x[:, used], classes, rng)(x[:, used])
    y = _labels(scores, balanced=rng.random() < 0.5)
    y = np.where(rng.random(rows) < _noise(rng), rng.permutation(y), y)
    labels, y = np.unique(y, return_inverse=True)
    columns, x = _rounded(x, rng)
    return Table(name, name, columns, x, y.astype(np.int64), tuple(f"{label}" for label in labels))


def _inputs(rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    kind = rng.choice(["normal", "uniform", "correlated", "clustered"])
    if kind == "uniform":
        return rng.uniform(-1.7, 1.7, (rows, width))
    x = rng.normal(size=(rows, width))
    if kind == "correlated":
        return x @ rng.normal(size=(width, width)) / np.sqrt(width)
    if kind == "clustered":
        centres = rng.normal(scale=2.0, size=(int(rng.integers(2, 8)), width))
        return centres[rng.integers(len(centres), size=rows)] + x
    return x


def _score(x: np.ndarray, classes: int, rng: np.random.Generator) -> Score:
    """A random function of the columns, which sees them for their scale alone."""
    width = x.shape[1]
    kind = rng.choice(["linear", "network", "tree", "nearest"])
    if kind == "linear":
        weights = rng.normal(size=(width, classes))
        return lambda rows: rows @ weights
    if kind == "network":
        units = int(rng.integers(4, 33))
        first = rng.normal(size=(width, units)) * np.exp(rng.uniform(0.0, 1.5)) / np.sqrt(width)
        second, shift = rng.normal(size=(units, classes)), rng.normal(size=units)
        return lambda rows: np.tanh(rows @ first + shift) @ second
    if kind == "tree":
        depth = int(rng.integers(1, 5))
        columns = rng.integers(width, size=depth)
        cuts = np.array([np.quantile(x[:, column], rng.uniform(0.2, 0.8)) for column in columns])
        leaves = rng.normal(size=(2**depth, classes))
        return lambda rows: leaves[(rows[:, columns] > cuts) @ (2 ** np.arange(depth))]
    points = x[rng.integers(len(x), size=classes * int(rng.integers(1, 4)))]

    def nearness(rows: np.ndarray) -> np.ndarray:
        distances = np.square(rows[:, None] - points).sum(-1).reshape(len(rows), classes, -1)
        return -distances.min(-1)

    return nearness


def _labels(scores: np.ndarray, balanced: bool) -> np.ndarray:
    """The highest score of each row; of balanced classes after each class's scores were given the same mean."""
    return (scores - scores.mean(0) if balanced else scores).argmax(1)


def _noise(rng: np.random.Generator) -> float:
    """Share of the labels that are replaced."""
    kind = rng.random()
    if kind < 0.5:
        return 0.0
    return 1.0 if kind > 0.95 else float(rng.uniform(0.0, 0.7))


def _rounded(x: np.ndarray, rng: np.random.Generator) -> tuple[tuple[Column, ...], np.ndarray]:
    """Some columns, or all, as codes of a few categories, cut at quantiles."""
    share, columns, x = rng.choice([0.0, 0.0, 0.3, 1.0]), [], x.copy()
    for i in range(x.shape[1]):
        levels = int(rng.integers(2, 6))
        if rng.random() >= share:
            columns.append(Column(f"x{i}"))
            continue
        cuts = np.quantile(x[:, i], np.sort(rng.uniform(0.1, 0.9, levels - 1)))
        x[:, i] = np.searchsorted(cuts, x[:, i])
        columns.append(Column(f"x{i}", tuple(str(level) for level in range(levels))))
    return tuple(columns), x
