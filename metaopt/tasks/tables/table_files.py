"""Files of tables: .npz, .csv, .tsv and .parquet, with an error for all that can be wrong with one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from metaopt.tasks.tables.table import BadTable, named

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npz", ".csv", ".tsv", ".parquet")
NPZ_TARGET = "y"
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files begin."""


def read_file(path: Path, as_written: str | None = None) -> tuple[pd.DataFrame, str | None]:
    """The columns of a file.

    Args:
        path: a file with one of the `SUFFIXES`.
        as_written: name of a column that stays text as the file has it, such as the identifiers 007 and 7.

    Returns:
        The data frame, with texts as names of columns, and the name of the target column where the format says it.

    Raises:
        BadTable: it cannot be read, has no rows, or two columns of one name.
    """
    if not path.is_file():
        raise BadTable("is a link to nothing; mend it, or remove it" if path.is_symlink() else "is no file; remove it")
    try:
        if path.suffix.lower() == ".npz":
            frame, target = _read_npz(path), NPZ_TARGET
        elif path.suffix.lower() == ".parquet":
            frame, target = _read_parquet(path), None
        else:
            frame, target = _read_text(path, "\t" if path.suffix.lower() == ".tsv" else ",", as_written), None
    except (OSError, EOFError, BadZipFile) as error:
        raise BadTable(f"cannot be read ({_first_line(error)}); write it again, or remove it") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    _check_names(list(frame.columns))
    if not len(frame):
        raise BadTable("has no rows; fill it, or remove it")
    return frame, target


def _check_names(names: Sequence[str]) -> None:
    """Names without space around them; an empty one is none."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise BadTable(f"has two columns called {named([repr(name) for name in twice])}; rename or remove one of them")


def _read_text(path: Path, separator: str, as_written: str | None) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - slow to import, and only tables need it

    with path.open("rb") as file:
        start = file.read(8)
    for magic, packer in PACKED.items():
        if start.startswith(magic):
            raise BadTable(f"is compressed ({packer}), whatever its name says; unpack it, or remove it")
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    if separator == "," and header.count(";") > header.count(","):
        raise BadTable("has semicolons between its columns; save it with commas, and with points in decimal numbers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            form: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig", "skipinitialspace": True}
            # As the file has them: pandas calls a second "a" "a.1", which is an honest name, too.
            header = pd.read_csv(path, **form, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
            _check_names([name.strip() for name in header])
            texts = {name: str for name in header if name.strip() == as_written}
            # Only an empty cell is missing here. NA and None may be words; `as_numbers` knows where they are not.
            return pd.read_csv(
                path, **form, index_col=False, low_memory=False, dtype=texts, keep_default_na=False, na_values=[""]
            )
    except pd.errors.EmptyDataError as error:
        raise BadTable("is empty; fill it, or remove it") from error
    except UnicodeDecodeError as error:
        raise BadTable("is not UTF-8 text; save it as UTF-8") from error
    except pd.errors.ParserWarning as error:
        raise BadTable("has rows with more cells than there are names in the first line; mend them") from error
    except pd.errors.ParserError as error:
        detail = _first_line(error).removeprefix("Error tokenizing data. C error: ")
        raise BadTable(f"has rows of different lengths ({detail}); mend them") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    try:
        return pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise BadTable(
            "needs the package pyarrow to be read; pip install 'torch-metaopt[parquet]', or save it as .csv"
        ) from error
    except ValueError as error:  # pyarrow's errors are
        raise BadTable(f"is no readable Parquet file ({_first_line(error)}); write it again, or remove it") from error


def _read_npz(path: Path) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    try:
        archive = np.load(path, allow_pickle=False)  # a pickle could run code
        if isinstance(archive, np.ndarray):
            raise BadTable("is a single array; write it with numpy.savez(file, x=…, y=…)")
        with archive:
            if not {"x", "y"} <= set(archive.files):
                raise BadTable(
                    f"must hold the arrays x and y, but holds {named(archive.files) or 'nothing'}; write both"
                )
            x, y = archive["x"], archive["y"]
    except ValueError as error:
        raise BadTable(
            "holds Python objects instead of plain arrays, or is no .npz file; write it with numpy.savez, x and y as "
            "arrays of numbers (labels in y may be texts)"
        ) from error
    x = x[:, None] if x.ndim == 1 else x
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise BadTable(
            f"must hold x [rows, columns] and y [rows], but x is {list(x.shape)} and y {list(y.shape)}; mend them"
        )
    if x.dtype.kind not in "buif":
        raise BadTable(f"has x of type {x.dtype}, where numbers are needed; turn texts into numbers, or save a .csv")
    if y.dtype.kind not in "buifU":
        raise BadTable(f"has y of type {y.dtype}; numbers or texts are needed")
    return pd.DataFrame({f"x{i}": column for i, column in enumerate(x.T)} | {NPZ_TARGET: y})


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
