"""From a table's columns to a network's inputs, by what the support rows show and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from metaopt.tasks.tables.table import Column

if TYPE_CHECKING:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

CLIP = 10.0
"""Largest input in size. A support set of a few rows may show a column as nearly constant; the first row that differs
would then be thousands of its standard deviations away."""

Transform: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""[rows, columns], float64 -> [rows, inputs], float32, without NaN."""


@final
@dataclass(frozen=True)
class Layout:
    """Where each column's inputs lie. It depends on the columns alone, so that no draw of rows moves an input.

    Attributes:
        numbers: positions of the columns that become one input each.
        categories: positions of the columns that become one input per category.
        starts: the first input of each column.
        width: number of inputs.
    """

    numbers: np.ndarray
    categories: np.ndarray
    starts: np.ndarray
    width: int


def layout_of(columns: Sequence[Column]) -> Layout:
    """The inputs of a table, column by column in the table's order."""
    widths = np.array([column.width for column in columns])
    one_hot = np.array([column.one_hot for column in columns])
    starts = np.concatenate(([0], widths.cumsum()[:-1]))
    return Layout(np.flatnonzero(~one_hot), np.flatnonzero(one_hot), starts, int(widths.sum()))


def fit(layout: Layout, support: np.ndarray, complete: bool = False, weights: np.ndarray | None = None) -> Inputs:
    """What the support rows say about a table's columns; a column of which they show one value or none becomes 0.

    A number is imputed with the median, standardised with mean and standard deviation, and clipped to ±10. A category
    is imputed with the most frequent one and encoded one-hot; the input of a category that no support row has is 0.

    Args:
        layout: of the table.
        support: [rows, columns], float64, NaN where a value is missing.
        complete: whether no value is missing in any row of the table, which saves half of the time.
        weights: of the support rows, positive: a row of weight 2 counts as two rows do. None: all the same.

    Returns:
        The function that does this to any rows of the table; it can be pickled.
    """
    numbers, categories = layout.numbers, layout.categories
    scaled = _scaling(support[:, numbers], complete, weights) if len(numbers) else None
    places = _encoding(support[:, categories], layout.starts[categories], weights) if len(categories) else None
    return Inputs(layout, scaled, places)


@final
@dataclass(frozen=True)
class Inputs:
    """A `Transform`: what `fit` has made of a table.

    Attributes:
        layout: of the table.
        scaled: for the columns of numbers; None where there are none.
        places: for the columns of categories; None where there are none.
    """

    layout: Layout
    scaled: Scaling | None
    places: Encoding | None

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The inputs of some rows; see `Transform`."""
        numbers, categories, starts = self.layout.numbers, self.layout.categories, self.layout.starts
        # One input more, for the categories that are not known.
        inputs = np.zeros((len(rows), self.layout.width + 1), dtype=np.float32)
        if self.scaled is not None:
            inputs[:, starts[numbers]] = self.scaled(rows[:, numbers])
        if self.places is not None:
            np.put_along_axis(inputs, self.places(rows[:, categories]), 1.0, axis=1)
        return inputs[:, :-1]


@final
@dataclass(frozen=True)
class Scaling:
    """From numbers to inputs, both [rows, columns].

    Attributes:
        median: scikit-learn's imputer; None where no value is missing.
        scaler: its scaler.
        varies: which columns show more than one value, bool [columns].
    """

    median: SimpleImputer | None
    scaler: StandardScaler
    varies: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Standardised and clipped; 0 where a column does not vary."""
        filled = rows if self.median is None else np.asarray(self.median.transform(rows))
        return (np.asarray(self.scaler.transform(filled)) * self.varies).clip(-CLIP, CLIP)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The middle of the values that are there; 0 where there is none, as scikit-learn's imputer has it."""
    there = ~np.isnan(values)
    if not there.any():
        return 0.0
    order = np.argsort(values[there], kind="stable")
    values, reached = values[there][order], weights[there][order].cumsum()
    lower, upper = (np.searchsorted(reached, reached[-1] / 2, side=side) for side in ("left", "right"))
    return float((values[lower] + values[min(upper, len(values) - 1)]) / 2)


def _scaling(support: np.ndarray, complete: bool, weights: np.ndarray | None) -> Scaling:
    from sklearn.impute import SimpleImputer  # noqa: PLC0415 - slow to import, and only tables need it
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    median = None if complete else SimpleImputer(strategy="median", keep_empty_features=True).fit(support)
    if median is not None and weights is not None:
        median.statistics_ = np.array([_weighted_median(values, weights) for values in support.T])
    shown = support if median is None else np.asarray(median.transform(support))
    return Scaling(median, StandardScaler().fit(shown, sample_weight=weights), np.ptp(shown, axis=0) > 0)


@final
@dataclass(frozen=True)
class Encoding:
    """From codes to positions of the inputs that are 1, -1 where there is none, both [rows, columns].

    It does what scikit-learn's SimpleImputer(strategy="most_frequent") and OneHotEncoder(handle_unknown="ignore") do,
    which for one draw take ten times as long as all the rest (`tests/tasks/test_preprocess.py` compares them).

    Attributes:
        counts: support rows, or their weight, of each code, [columns, codes]; of the last code there are none.
        starts: the first input of each column.
    """

    counts: np.ndarray
    starts: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """See the class."""
        codes = np.where(np.isnan(rows), self.counts.argmax(axis=1), rows).astype(np.int64)
        known = self.counts[np.arange(rows.shape[1]), codes.clip(max=self.counts.shape[1] - 1)] > 0
        return np.where(known, self.starts + codes, -1)


def _encoding(support: np.ndarray, starts: np.ndarray, weights: np.ndarray | None) -> Encoding:
    columns = np.arange(support.shape[1])
    present = ~np.isnan(support)
    each = np.ones(len(support), dtype=np.int64) if weights is None else weights
    counts = np.zeros((support.shape[1], int(support[present].max(initial=0)) + 2), dtype=each.dtype)
    places = np.broadcast_to(columns, support.shape)[present], support[present].astype(np.int64)
    np.add.at(counts, places, np.broadcast_to(each[:, None], support.shape)[present])
    return Encoding(counts, starts)
