"""The page's long tables: task by task, and parameter tensor by parameter tensor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison
from metaopt.policies.reading import PolicyReading
from metaopt.report.headline import POLICY
from metaopt.report.method_tables import match_cell
from metaopt.report.numbers import compact, decimals_for, fixed
from metaopt.report.tables import EMPTY, Cell, PageTable, name_cell, number_cell
from metaopt.report.words import geometric_mean, grouped
from metaopt.search.account import Account

MOST_ROWS = 2000
"""Of more units, the first so many are on the page."""
QUANTITY_TITLES = {"lr": "Learning rate", "l2": "L2", "pull": "Pull", "init_std": "Initial scale", "dropout": "Dropout"}


def tasks_table(comparison: Comparison, account: Account | None) -> PageTable:
    """A row per task, or per table where tasks are drawn from tables: every method's loss, and trials to match.

    Args:
        comparison: the policy and the baselines.
        account: the searches on the same tasks; None without any.

    Returns:
        The table.
    """
    names = list(dict.fromkeys(comparison.members))
    comparison = by_member(comparison)
    shown = min(comparison.n_tasks, MOST_ROWS)
    unit = comparison.unit.capitalize()
    policy = comparison.methods[POLICY]
    label = [Cell(name, name) for name in names] or [Cell(str(k), k) for k in range(comparison.n_tasks)]
    columns: dict[str, list[Cell]] = {unit: label[:shown]}
    losses = [method.loss for method in comparison.methods.values()]
    places = max(decimals_for([float(np.std(loss)) / 10 for loss in losses]), 3)
    for name, method in comparison.methods.items():
        marks = np.where(method.diverged, " †", "")
        values = zip(method.loss[:shown].tolist(), marks, strict=False)
        columns[f"{name}: loss"] = [Cell(fixed(loss, places) + str(mark), loss) for loss, mark in values]
        if name == POLICY and method.accuracy is not None:
            cells = [Cell(f"{100 * each:.1f} %", each) for each in method.accuracy[:shown].tolist()]
            columns["policy: accuracy"] = cells
        if name != POLICY:
            differences = (method.loss - policy.loss)[:shown].tolist()
            columns[f"{name} − policy"] = [
                Cell(fixed(each, places, "+"), each, verdict=_won(each)) for each in differences
            ]
    for name, search in (account.methods if account else {}).items():
        if len(search.match) == comparison.n_tasks:
            columns[f"{name}: trials to match"] = [match_cell(int(each)) for each in search.match[:shown]]
    notes = ["Blue: the policy's loss is lower; red: it is higher."]
    if any(method.diverged.any() for method in comparison.methods.values()):
        notes.append("†: training diverged, and the untrained network is scored.")
    if shown < comparison.n_tasks:
        notes.append(f"The first {shown} of {comparison.n_tasks}; all of them are in tasks.csv.")
    rows = list(zip(*columns.values(), strict=True))
    caption = f"Every method's test loss on each {comparison.unit}" + (
        ", and trials to match the policy" if account else ""
    )
    return PageTable("tasks", caption, list(columns), rows, " ".join(notes))


def choices_tables(reading: PolicyReading) -> list[PageTable]:
    """For each thing that is chosen by gradient a row per candidate with its weight, the largest first.

    Args:
        reading: what the policy has learned.

    Returns:
        The tables; none where nothing was mixed.
    """
    tables = []
    for what, weights in reading.mixed.items():
        rows = [
            [name_cell(name), number_cell(weights[name])] for name in sorted(weights, key=lambda name: -weights[name])
        ]
        note = "Of the mixture that was learned; the first row is what is used." if reading.chosen else ""
        key = what.replace(" ", "-")
        tables.append(PageTable(key, f"Weights of each {what}", [what.capitalize(), "Weight"], rows, note))
    return tables


def tensors_table(reading: PolicyReading, roles: Mapping[str, str]) -> PageTable | None:
    """A row per parameter tensor with its role and the geometric mean of each of its strengths.

    Below a mean stands the middle half of the entries, where there is a strength for each.

    Args:
        reading: what the policy has learned.
        roles: by parameter tensor; may be empty.

    Returns:
        The table; None where the policy has no strengths.
    """
    names = list(dict.fromkeys(name for tensors in reading.strengths.values() for name in tensors))
    if not names:
        return None
    columns: dict[str, list[Cell]] = {"Parameter tensor": [name_cell(name) for name in names]}
    if roles:
        columns["Role"] = [Cell(roles[name], roles[name]) if name in roles else EMPTY for name in names]
    for quantity, tensors in reading.strengths.items():
        columns[_title(reading, quantity)] = [_strength(tensors.get(name)) for name in names]
    note = "Geometric means over a tensor's entries; below: the range of the middle half of them."
    if "init_std" in reading.strengths:
        note += " Initial scale: relative to torch's standard deviation."
    if "dropout" in reading.strengths:
        note += " Dropout: the rate with which what goes into the layer is multiplied."
    rows = list(zip(*columns.values(), strict=True))
    return PageTable("tensors", "Strengths by parameter tensor", list(columns), rows, note)


def roles_table(reading: PolicyReading, roles: Mapping[str, str]) -> PageTable | None:
    """A row per role with the geometric mean of each strength over all tensors of that role.

    Args:
        reading: what the policy has learned.
        roles: by parameter tensor.

    Returns:
        The table; None where roles say no more than tensors: where they are unknown, or no two tensors share one.
    """
    known = {name for tensors in reading.strengths.values() for name in tensors}
    if not known or not known <= set(roles) or len({roles[name] for name in known}) == len(known):
        return None
    names = list(dict.fromkeys(roles[name] for name in roles if name in known))
    columns: dict[str, list[Cell]] = {"Role": [name_cell(name) for name in names]}
    for quantity, tensors in reading.strengths.items():
        found = {level.name: level.value for level in grouped(tensors, roles)}
        columns[_title(reading, quantity)] = [number_cell(found[n]) if n in found else EMPTY for n in names]
    rows = list(zip(*columns.values(), strict=True))
    return PageTable("roles", "Strengths by role", list(columns), rows, "Geometric means over all entries.")


def _title(reading: PolicyReading, quantity: str) -> str:
    return QUANTITY_TITLES.get(quantity, quantity) + ("" if quantity in reading.learned else " (fixed)")


def _strength(values: np.ndarray | None) -> Cell:
    if values is None:
        return EMPTY
    mean = geometric_mean(values)
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(flat) == 1:
        return number_cell(mean)
    low, high = np.quantile(flat, [0.25, 0.75])
    return Cell(compact(mean), mean, f"{compact(float(low), 2)} to {compact(float(high), 2)}")


def _won(difference: float) -> str:
    return "lower" if difference > 0 else "higher" if difference < 0 else ""
