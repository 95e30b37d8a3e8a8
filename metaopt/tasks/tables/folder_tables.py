"""What a user's tables are together: their kind, and which columns and labels mean the same in all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from metaopt.tasks.tables.columns import Values, category_names, encode, is_text, names_of, present, rows_words, strays
from metaopt.tasks.tables.folder_reading import RawTable
from metaopt.tasks.tables.table import BadTable, Column, LeftOut, Table, check_targets, named, sift
from metaopt.types import Kind

MOST_CLASSES = 10
"""Whole-number targets with at most this many different values in a table are labels, unless `tasks.kind` says else."""


class Settled(NamedTuple):
    """The tables of one family.

    Attributes:
        tables: each a group of its own.
        bad: those that do not fit the others, and columns that fit none, and why.
        facts: what was inferred of all of them, a sentence each.
        notes: what to say of a table, by its name.
    """

    tables: list[Table]
    bad: list[LeftOut]
    facts: list[str]
    notes: dict[str, str]


def settle(raws: Sequence[RawTable], kind: Kind | None, one_hot: int) -> Settled:
    """Decide what the tables are, all together.

    Columns that all tables have come first, in the order of the first table, and mean the same in each, down to the
    codes of their categories; a table's other columns follow. Likewise labels: those that all tables have come first.

    The kind, where it is not given: texts, true and false are labels, and so are whole numbers, if most tables have no
    more than ten different ones; other numbers are a regression's targets.

    Args:
        raws: the tables.
        kind: classification, regression, or None to infer it.
        one_hot: most categories of a column.
    """
    good, bad = _sifted(raws, _alike([raw.target for raw in raws], kind))
    inferred = kind or _infer([raw.target for raw in good])
    good, unfit = _sifted(good, lambda raw: _check_target(raw.target, inferred, given=kind is not None))
    good, odd = _agreeing(good)
    shared, good, dropped = _shared_columns(good, one_hot)
    good, empty = _sifted(good, _check_inputs)
    labels = _Labels(good) if inferred is Kind.classification else None
    return Settled(
        tables=[_table(raw, shared, labels, one_hot) for raw in good],
        bad=bad + unfit + odd + dropped + empty,
        facts=[_kind_words(inferred, given=kind is not None), *_columns_words(shared, good)],
        notes=_notes(shared, good),
    )


def _sifted(raws: Sequence[RawTable], check: Callable[[RawTable], None]) -> tuple[list[RawTable], list[LeftOut]]:
    """The tables that pass a check, and the others."""

    def passed(raw: RawTable) -> RawTable:
        check(raw)
        return raw

    return sift(raws, passed, lambda raw: raw.source)


def _alike(targets: Sequence[Values], kind: Kind | None) -> Callable[[RawTable], None]:
    """The check that a table's targets are texts, or numbers, as those of most tables or as a regression's must be."""
    numbers = sum(1 for target in targets if not is_text(target) or _has_strays(target))
    text = kind is not Kind.regression and len(targets) - numbers > numbers
    where = "for a regression (tasks.kind)" if kind is Kind.regression else "as in most tables"

    def check(raw: RawTable) -> None:
        odd = strays(raw.target) if is_text(raw.target) else []
        if text and not odd:
            raise BadTable("has numbers as targets, not texts as most tables; write labels in one way")
        if odd and not text:
            raise BadTable(
                f"has the target {raw.target[odd[0]]!r} in {rows_words(odd)}, but numbers are needed {where}; mend it"
            )

    return check


def _has_strays(target: Values) -> bool:
    return len(set(target)) > MOST_CLASSES and 2 * len(strays(target)) <= len(target)


def _infer(targets: Sequence[Values]) -> Kind:
    labels = sum(1 for target in targets if _few(target))
    return Kind.classification if 2 * labels > len(targets) else Kind.regression


def _few(target: Values) -> bool:
    return is_text(target) or (len(np.unique(target)) <= MOST_CLASSES and bool(np.all(target % 1 == 0)))


def _check_target(target: Values, kind: Kind, given: bool) -> None:
    if kind is Kind.regression:
        check_targets(target, ())
        return
    labels, y = np.unique(target, return_inverse=True)
    if not given and not _few(target):
        raise BadTable(
            f"has {len(labels)} different numbers as targets, where most tables have labels (at most {MOST_CLASSES} "
            "whole numbers); set tasks.kind=classification or tasks.kind=regression"
        )
    check_targets(y, names_of(labels.tolist()))


def _shared(raws: Sequence[RawTable]) -> list[str]:
    """The columns that all tables have, in the order of the first."""
    return [column for column in raws[0].inputs if all(column in raw.inputs for raw in raws)] if raws else []


def _agreeing(raws: Sequence[RawTable]) -> tuple[list[RawTable], list[LeftOut]]:
    """The tables whose shared columns hold texts, or numbers, as in most of them; and the others."""
    bad: list[LeftOut] = []
    while True:
        text = {column: _mostly_text([raw.inputs[column] for raw in raws]) for column in _shared(raws)}
        agreeing, odd = _sifted(raws, lambda raw, text=text: _check_columns(raw, text))
        bad += odd
        if not odd:
            return agreeing, bad
        raws = agreeing  # without these, the others may share more columns


def _mostly_text(tables: Sequence[Values]) -> bool:
    filled = [values for values in tables if len(present(values))]
    return 2 * sum(1 for values in filled if is_text(values)) > len(filled)


def _check_columns(raw: RawTable, text: Mapping[str, bool]) -> None:
    problems = []
    for column, as_text in text.items():
        values = raw.inputs[column]
        if not len(present(values)) or is_text(values) == as_text:
            continue
        if as_text:
            problems.append(f"column {column} holds numbers, but texts in most tables; write it in one way")
        else:
            odd = strays(values)
            problems.append(
                f"column {column} holds {values[odd[0]]!r} in {rows_words(odd)}, but numbers in most tables; mend it, "
                f"or leave the column out with tasks.drop=[{column}]"
            )
    if problems:
        raise BadTable("; ".join(problems))


def _shared_columns(raws: Sequence[RawTable], one_hot: int) -> tuple[dict[str, Column], list[RawTable], list[LeftOut]]:
    """The columns that all tables have; the tables without those that cannot be used, and why they cannot."""

    def column(name: str) -> Column:
        try:
            return Column(name, category_names([raw.inputs[name] for raw in raws], one_hot))
        except BadTable as error:
            raise BadTable(f"in column {name} {error}; leave it out with tasks.drop=[{name}]") from error

    columns, dropped = sift(_shared(raws), column, lambda _: "all tables together")
    shared = {column.name: column for column in columns}
    gone = set(_shared(raws)) - set(shared)
    left = [replace(raw, inputs={k: v for k, v in raw.inputs.items() if k not in gone}) for raw in raws]
    return shared, left, dropped


def _check_inputs(raw: RawTable) -> None:
    if not raw.inputs:
        raise BadTable("has no column of inputs left; add one")


class _Labels:
    """Class indices that mean the same wherever all tables have the label."""

    def __init__(self, raws: Sequence[RawTable]) -> None:
        every = [set(raw.target.tolist()) for raw in raws]
        self._shared = sorted(set.intersection(*every)) if every else []

    def of(self, target: Values) -> tuple[np.ndarray, tuple[str, ...]]:
        """Class indices, [rows], int64, and the names of the classes."""
        own = sorted(set(target.tolist()) - set(self._shared))
        order = [*self._shared, *own]
        index = {label: i for i, label in enumerate(order)}
        return np.array([index[label] for label in target.tolist()], dtype=np.int64), tuple(names_of(order))


def _table(raw: RawTable, shared: Mapping[str, Column], labels: _Labels | None, one_hot: int) -> Table:
    own = {
        name: Column(name, category_names([values], one_hot))
        for name, values in raw.inputs.items()
        if name not in shared
    }
    columns = {**shared, **own}
    x = np.column_stack([encode(raw.inputs[name], column) for name, column in columns.items()])
    y, classes = (raw.target, ()) if labels is None else labels.of(raw.target)
    return Table(raw.name, raw.name, tuple(columns.values()), x, y, classes)


def _kind_words(kind: Kind, given: bool) -> str:
    if given:
        return f"{kind.value}, as tasks.kind says"
    why = "texts or a few whole numbers" if kind is Kind.classification else "numbers"
    return f"{kind.value}, because targets are {why}; tasks.kind changes it"


def _columns_words(shared: Mapping[str, Column], raws: Sequence[RawTable]) -> list[str]:
    if all(len(raw.inputs) == len(shared) for raw in raws):
        return [f"all tables have the same {len(shared)} columns"]
    if not shared:
        return ["no column is in all tables, so that an input means something else in each of them"]
    return [f"{len(shared)} columns are in all tables and come first; what else a table has follows"]


def _notes(shared: Mapping[str, Column], raws: Sequence[RawTable]) -> dict[str, str]:
    notes: dict[str, list[str]] = {raw.name: [] for raw in raws}
    for raw in raws:
        own = [column for column in raw.inputs if column not in shared]
        if shared and own:
            notes[raw.name].append(f"not in all tables: {named(own)}")
        numbered = [column for column, values in raw.inputs.items() if _numbers_rows(values)]
        if numbered:
            notes[raw.name].append(f"{named(numbered)} numbers the rows; tasks.drop leaves it out")
    return {name: "; ".join(words) for name, words in notes.items()}


def _numbers_rows(values: Values) -> bool:
    return not is_text(values) and len(values) > 2 and bool(np.all(np.diff(values) == 1))
