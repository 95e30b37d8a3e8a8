"""Columns of a data frame: numbers, or texts that become codes of a few categories."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from metaopt.tasks.tables.table import BadTable, Column

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1e100
"""Numbers beyond this are refused as infinite ones are: their squares would overflow."""

MISSING = ("", "?")
"""Texts that stand for a missing value wherever they are."""
NO_NUMBER = frozenset({"-", "#n/a", "<na>", "n/a", "na", "nan", "-nan", "none", "null"})
"""Words, in small letters, that stand for a missing number in a column of numbers; among texts, they are texts."""

EXACT = 2**53
"""Whole numbers beyond this have no float64 of their own each."""

TIMES = ("date", "datetime", "datetime64", "time", "timedelta", "timedelta64", "period")
"""As pandas calls what is no number and no text."""

Values: TypeAlias = np.ndarray
"""One column: float64 with NaN where a value is missing, or objects: str, and None where one is missing."""


def values_of(column: pd.Series, name: str) -> Values:
    """The values of one column. Text of which all can be read as numbers is numbers; true and false are text.

    Args:
        column: as pandas read it.
        name: what to call it in errors; such as "column age".

    Raises:
        BadTable: it holds dates, infinite numbers, whole numbers too long to be told apart, or something that is
            neither number nor text.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables need it

    types = pd.api.types
    if isinstance(column.dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    if types.is_bool_dtype(column.dtype):
        return texts_of(column, name)
    if is_time(column):
        raise BadTable(f"{name} holds dates or times; turn them into numbers, or leave the column out (tasks.drop)")
    if types.is_complex_dtype(column.dtype):
        raise BadTable(f"{name} holds complex numbers; give real and imaginary part a column each")
    if types.is_numeric_dtype(column.dtype):
        if types.is_integer_dtype(column.dtype):
            _check_told_apart(column.dropna().unique().tolist(), name)
        return _finite(column.to_numpy(dtype=np.float64, na_value=np.nan), name)
    texts = texts_of(column, name)
    numbers = as_numbers(texts)
    if numbers is None:
        return texts
    _check_told_apart([int(text) for text in set(present(texts)) if re.fullmatch(r"[+-]?[0-9]{16,300}", text)], name)
    return _finite(numbers, name)


def is_time(column: pd.Series) -> bool:
    """Whether a column holds dates, times, durations or periods, in whatever type."""
    import pandas as pd  # noqa: PLC0415

    types = pd.api.types
    if types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype):
        return True
    if types.is_numeric_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
        return False
    return types.infer_dtype(column, skipna=True) in TIMES


def texts_of(column: pd.Series, name: str) -> Values:
    """The values of one column as texts, without space around them.

    Args:
        column: as pandas read it.
        name: what to call it in errors.

    Raises:
        BadTable: it holds something that is neither number nor text.
    """
    missing = column.isna().to_numpy()
    texts = np.empty(len(column), dtype=object)
    for i, value in enumerate(column.array):
        if missing[i]:
            continue
        if isinstance(value, (list, tuple, dict, set, bytes, np.ndarray)):
            raise BadTable(
                f"{name} holds {type(value).__name__} values, not numbers or texts; leave it out (tasks.drop)"
            )
        text = str(value).strip()
        texts[i] = None if text in MISSING else text
    return texts


def as_numbers(texts: Values) -> np.ndarray | None:
    """Texts as float64, if all that are there can be read so, but for words that stand for no number."""
    known = [None if text is None or text.casefold() in NO_NUMBER else text for text in texts]
    if any(text is not None and not _is_number(text) for text in known):
        return None
    if strays(texts) and not any(known):
        return None  # words alone say nothing of numbers
    return np.array([np.nan if text is None else float(text) for text in known], dtype=np.float64)


def strays(texts: Values) -> list[int]:
    """Positions of the texts that cannot be read as numbers."""
    return [i for i, text in enumerate(texts) if text is not None and not _is_number(text)]


def is_text(values: Values) -> bool:
    """Whether a column holds text. One without any value does not."""
    return values.dtype == object


def missing(values: Values) -> list[int]:
    """Positions of the values that are missing."""
    return np.flatnonzero([value is None for value in values] if is_text(values) else np.isnan(values)).tolist()


def present(values: Values) -> Values:
    """The values that are not missing."""
    return values[[value is not None for value in values]] if is_text(values) else values[~np.isnan(values)]


def category_names(tables: Sequence[Values], one_hot: int) -> tuple[str, ...]:
    """The categories of a column over all tables that have it, in the order of their codes.

    Text is categories. Numbers are where all are whole and they take 3 to `one_hot` different values; their order
    is not used then.

    Args:
        tables: the column's values in each table; all text, or all numbers.
        one_hot: most categories.

    Returns:
        Names in sorted order, or none for numbers that are used as they are.

    Raises:
        BadTable: text of more than `one_hot` different values.
    """
    if any(is_text(values) for values in tables):
        texts = sorted({text for values in tables if is_text(values) for text in present(values)})
        if len(texts) > one_hot:
            raise BadTable(f"are {len(texts)} different texts, but only tasks.one_hot={one_hot} can be told apart")
        return tuple(texts)
    if any(len(np.unique(present(values[:1000]))) > one_hot for values in tables):
        return ()  # a look at the first rows saves sorting them all
    numbers = np.unique(np.concatenate([np.unique(present(values)) for values in tables]))
    return tuple(names_of(numbers)) if 3 <= len(numbers) <= one_hot and np.all(numbers % 1 == 0) else ()


def names_of(values: Iterable[object]) -> list[str]:
    """Numbers or texts as names; whole numbers without decimals."""
    return [
        f"{value:.0f}" if isinstance(value, (float, np.floating)) and value % 1 == 0 else str(value) for value in values
    ]


def encode(values: Values, column: Column) -> np.ndarray:
    """A column as Table.x has it: numbers, or codes of its categories; NaN where a value is missing.

    Args:
        values: of one table.
        column: with the categories; text must be among them.
    """
    if not column.categories:
        return values
    if is_text(values):
        code = {name: float(index) for index, name in enumerate(column.categories)}
        return np.array([np.nan if text is None else code[text] for text in values], dtype=np.float64)
    missing = np.isnan(values)
    if missing.all():
        return values  # the categories may be texts of other tables
    codes = np.searchsorted(np.array(column.categories, dtype=np.float64), values)
    return np.where(missing, np.nan, codes)


def rows_words(positions: Sequence[int], most: int = 3) -> str:
    """ "row 4", or "rows 4, 9 and 2 more"; the first row of data is row 1."""
    numbers = [str(position + 1) for position in positions]
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    if len(numbers) <= most:
        return f"rows {', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"rows {', '.join(numbers[:most])} and {len(numbers) - most} more"


def _finite(numbers: np.ndarray, name: str) -> np.ndarray:
    infinite = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(infinite):
        raise BadTable(
            f"{name} is infinite in {rows_words(infinite.tolist())} (or beyond 1e100); leave such cells empty, or mend "
            "them"
        )
    return numbers


def _check_told_apart(whole: Iterable[int], name: str) -> None:
    """Make sure that different whole numbers stay different as float64."""
    long = {value for value in whole if abs(value) > EXACT}
    if len({float(value) for value in long}) < len(long):
        raise BadTable(
            f"{name} holds whole numbers of which some are equal as float64, such as {min(long)}; shorten them, put a "
            "letter before each, or leave the column out"
        )


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and not math.isnan(float(text))  # Python reads 1_000 and nan; no table means numbers
    except ValueError:
        return False
