"""From a table as scikit-learn's users give it to the inputs of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import TYPE_CHECKING, Any, final

import numpy as np

from metaopt.tasks.tables.columns import (
    Values,
    as_numbers,
    is_text,
    is_time,
    names_of,
    present,
    rows_words,
    strays,
    texts_of,
    values_of,
)
from metaopt.tasks.tables.preprocess import Inputs, fit, layout_of
from metaopt.tasks.tables.table import BadTable, Column

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 64
"""Categories of a column that have an input of their own; of a column with more, the rarer ones share the last."""
OTHERS = "(others)"


@final
@dataclass(frozen=True)
class TableInput:
    """What the rows of training have shown of a table; it turns any rows of it into inputs.

    Attributes:
        columns: the columns, with the categories of those that hold texts, pandas categories or a mixture.
        inputs: from numbers and codes of categories to inputs.
    """

    columns: tuple[Column, ...]
    inputs: Inputs

    @staticmethod
    def fit(columns: Sequence[Column], codes: np.ndarray, weights: np.ndarray | None = None) -> TableInput:
        """Learns imputed values, means and deviations from the rows of training.

        Args:
            columns: see `columns_of`.
            codes: of these rows, see `codes_of`.
            weights: of these rows, positive; None: all the same.
        """
        # Later rows may lack what none of these does.
        return TableInput(tuple(columns), fit(layout_of(columns), codes, weights=weights))

    @property
    def width(self) -> int:
        """Number of inputs."""
        return self.inputs.layout.width

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Inputs, float32 [rows, width], without NaN: 0 for a category that training has not shown.

        Args:
            codes: see `codes_of`.
        """
        inputs = self.inputs(codes)
        # Two categories are one number, of which an unknown third would be an outlier.
        for i, column in enumerate(self.columns):
            if len(column.categories) == 2:
                inputs[codes[:, i] >= 2, self.inputs.layout.starts[i]] = 0.0
        return inputs


def has_texts(table: Any) -> bool:
    """Whether a table, an array or what numpy makes one of, is more than an array of numbers.

    Args:
        table: as a user gives it. Numbers may be true and false.
    """
    if is_frame(table):
        return not all(isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in table.dtypes)
    if not hasattr(table, "dtype") and hasattr(table, "__len__"):
        try:
            table = np.asarray(table)
        except ValueError:  # rows of several lengths, which scikit-learn's checks name
            return False
    return getattr(getattr(table, "dtype", None), "kind", "") in ("O", "U", "S", "T")


def is_frame(table: Any) -> bool:
    """Whether it is a data frame of pandas."""
    return hasattr(table, "iloc") and hasattr(table, "columns")


def columns_of(frame: pd.DataFrame) -> tuple[Column, ...]:
    """The columns of the rows of training.

    Texts are categories, unless all can be read as numbers; so are pandas categories, whatever they are. True and false
    are the numbers 1 and 0.

    Args:
        frame: of these rows.

    Raises:
        TypeError, ValueError: a column holds what is neither number nor text, or infinity.
    """
    return tuple(_column(str(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns))


def codes_of(frame: pd.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """Numbers, and codes of categories, float64 [rows, columns]; NaN where a value is missing.

    A category that a column does not have gets the code after the last.

    Args:
        frame: any rows.
        columns: what those of training have shown.

    Raises:
        TypeError, ValueError: see `columns_of`; or a column of numbers has become texts.
    """
    found = [_codes(frame.iloc[:, i], column) for i, column in enumerate(columns)]
    return np.column_stack(found) if found else np.empty((len(frame), 0))


def _column(name: str, series: pd.Series) -> Column:
    values = _values(series, name)
    if not len(present(values)):
        return Column(name, (OTHERS,))  # whatever comes later is unseen
    if not is_text(values):
        return Column(name)
    counts = Counter(present(values).tolist())
    names = sorted(counts)
    if len(names) > MOST_CATEGORIES:
        kept = sorted(names, key=lambda text: -counts[text])[: MOST_CATEGORIES - 1]
        names = [*sorted(kept), OTHERS]
    return Column(name, tuple(names))


def _codes(series: pd.Series, column: Column) -> Values:
    if not column.categories:
        values = _values(series, column.name)
        numbers = as_numbers(values) if is_text(values) else values
        if numbers is None:
            rows = strays(values)
            raise ValueError(
                f"column {column.name} held no texts when the estimator was fitted, but holds {values[rows[0]]!r} in "
                f"{rows_words(rows)}; give numbers, or leave such cells empty"
            )
        return numbers
    code = {name: float(i) for i, name in enumerate(column.categories)}
    unknown = code.get(OTHERS, float(len(code)))
    return np.array([np.nan if text is None else code.get(text, unknown) for text in _texts(series, column.name)])


def _values(series: pd.Series, name: str) -> Values:
    """Numbers, or texts that are categories."""
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables with texts need it

    if isinstance(series.dtype, pd.CategoricalDtype):
        return _texts(series, name)
    _check_values(series, name)
    if pd.api.types.infer_dtype(series, skipna=True) == "boolean":
        return series.astype("boolean").to_numpy(dtype=np.float64, na_value=np.nan)
    try:
        return values_of(series, f"column {name}")
    except BadTable as error:
        raise ValueError(str(error)) from error


def _texts(series: pd.Series, name: str) -> Values:
    """The names of categories, so that a whole number is the same name in whatever type it comes."""
    import pandas as pd  # noqa: PLC0415

    if isinstance(series.dtype, pd.CategoricalDtype):
        names = np.array([*names_of(series.cat.categories.tolist()), None], dtype=object)
        return names[series.cat.codes.to_numpy()]
    _check_values(series, name)
    if pd.api.types.is_float_dtype(series.dtype):
        names = np.array(names_of(series.fillna(0.0).tolist()), dtype=object)
        names[series.isna().to_numpy()] = None
        return names
    return texts_of(series, f"column {name}")


def _check_values(series: pd.Series, name: str) -> None:
    import pandas as pd  # noqa: PLC0415

    types = pd.api.types
    if is_time(series):
        raise TypeError(f"column {name} holds dates or times; turn them into numbers, or leave the column out")
    if not types.is_object_dtype(series.dtype):
        return
    for value in series[series.notna()]:
        if not isinstance(value, (str, Number, np.generic)):
            # scikit-learn's checks look for these words.
            raise TypeError(
                f"column {name} holds a {type(value).__name__}, but each argument must be a string or a number; leave "
                "the column out"
            )
