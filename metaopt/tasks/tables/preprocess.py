"""From a table's columns to a network's inputs, by what the support rows show and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np

from metaopt.tasks.tables.table import Column

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


def fit(layout: Layout, support: np.ndarray, complete: bool = False) -> Transform:
    """What the support rows say about a table's columns; a column of which they show one value or none becomes 0.

    A number is imputed with the median, standardised with mean and standard deviation, and clipped to ±10. A category
    is imputed with the most frequent one and encoded one-hot; the input of a category that no support row has is 0.

    Args:
        layout: of the table.
        support: [rows, columns], float64, NaN where a value is missing.
        complete: whether no value is missing in any row of the table, which saves half of the time.

    Returns:
        The function that does this to any rows of the table.
    """
    numbers, categories = layout.numbers, layout.categories
    scaled = _scaling(support[:, numbers], complete) if len(numbers) else None
    places = _encoding(support[:, categories], layout.starts[categories]) if len(categories) else None

    def transform(rows: np.ndarray) -> np.ndarray:
        # One input more, for the categories that are not known.
        inputs = np.zeros((len(rows), layout.width + 1), dtype=np.float32)
        if scaled is not None:
            inputs[:, layout.starts[numbers]] = scaled(rows[:, numbers])
        if places is not None:
            np.put_along_axis(inputs, places(rows[:, categories]), 1.0, axis=1)
        return inputs[:, :-1]

    return transform


def _scaling(support: np.ndarray, complete: bool) -> Transform:
    from sklearn.impute import SimpleImputer  # noqa: PLC0415 - slow to import, and only tables need it
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    median = None if complete else SimpleImputer(strategy="median", keep_empty_features=True).fit(support)

    def filled(rows: np.ndarray) -> np.ndarray:
        return rows if median is None else np.asarray(median.transform(rows))

    shown = filled(support)
    scaler = StandardScaler().fit(shown)
    varies = np.ptp(shown, axis=0) > 0
    return lambda rows: (np.asarray(scaler.transform(filled(rows))) * varies).clip(-CLIP, CLIP)


def _encoding(support: np.ndarray, starts: np.ndarray) -> Transform:
    """The function from codes to positions of the inputs that are 1, -1 where there is none, both [rows, columns].

    It does what scikit-learn's SimpleImputer(strategy="most_frequent") and OneHotEncoder(handle_unknown="ignore") do,
    which for one draw take ten times as long as all the rest (`tests/tasks/test_preprocess.py` compares them).
    """
    columns = np.arange(support.shape[1])
    present = ~np.isnan(support)
    counts = np.zeros((support.shape[1], int(support[present].max(initial=0)) + 2), dtype=np.int64)
    np.add.at(counts, (np.broadcast_to(columns, support.shape)[present], support[present].astype(np.int64)), 1)
    most_frequent = counts.argmax(axis=1)
    beyond = counts.shape[1] - 1  # a code that none of the support rows has

    def places(rows: np.ndarray) -> np.ndarray:
        codes = np.where(np.isnan(rows), most_frequent, rows).astype(np.int64)
        known = counts[columns, codes.clip(max=beyond)] > 0
        return np.where(known, starts + codes, -1)

    return places
