"""The files that an evaluation leaves: `results.json` in numbers, `tasks.csv` task by task."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from math import isnan
from pathlib import Path
from typing import Any

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.statistics import Interval, mean_interval, paired
from metaopt.files import write_text
from metaopt.version import __version__

FORMAT = 1
POLICY = "policy"
RECORDED_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "optuna", "scikit-learn")
TASK_COLUMNS = ("task", "method", "loss", "accuracy", "diverged", "loss_minus_policy", "loss_before")


def write_results(comparison: Comparison, path: str | Path, search: Mapping[str, Any] | None = None) -> None:
    """Write `results.json`.

    Args:
        comparison: what was found.
        path: the file, replaced in one stroke.
        search: the record of the searches on the same tasks, for the key "search"; None: the file has no such key.
    """
    record = results_record(comparison, package_versions())
    if search is not None:
        record["search"] = dict(search)
    write_text(path, json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def results_record(comparison: Comparison, versions: Mapping[str, str]) -> dict[str, Any]:
    """The content of `results.json`: plain numbers, strings, lists and dictionaries, all of them finite.

    Means and intervals are over `n_units` units: tasks, or where several tasks come from one table, tables.

    Args:
        comparison: what was found; one of its methods is "policy".
        versions: versions of the software, by package.

    Returns:
        The record, with its keys in the order in which people read them.
    """
    shown = by_member(comparison)
    policy = shown.methods[POLICY]
    return {
        "format": FORMAT,
        "tasks": comparison.tasks,
        "kind": comparison.kind,
        "split": comparison.split,
        "split_hash": comparison.split_hash,
        "n_tasks": comparison.n_tasks,
        "unit": comparison.unit,
        "n_units": shown.n_tasks,
        "horizon": comparison.horizon,
        "seed": comparison.seed,
        "batch_statistics": comparison.batch_statistics,
        "versions": dict(versions),
        "notes": list(comparison.notes),
        "methods": {
            name: _method_record(method, policy) | {"diverged": int(comparison.methods[name].diverged.sum())}
            for name, method in shown.methods.items()
        },
    }


def write_tasks_csv(comparison: Comparison, path: str | Path) -> None:
    """Write `tasks.csv`: a row per task and method, with full precision.

    Columns: task (counted from 0), method, loss, accuracy (empty for regression), diverged (true or false),
    loss_minus_policy (empty for the policy itself) and loss_before, that of the untrained network (empty for searches);
    and member, the task's table, where tasks are draws from tables. A task that has diverged counts as its untrained
    network, so that its loss is loss_before.

    Args:
        comparison: what was found; one of its methods is "policy".
        path: the file, replaced in one stroke.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*TASK_COLUMNS, *(["member"] if comparison.members else [])])
    policy = comparison.methods[POLICY]
    for task in range(comparison.n_tasks):
        for name, method in comparison.methods.items():
            loss = float(method.loss[task])
            accuracy = "" if method.accuracy is None else float(method.accuracy[task])
            diverged = "true" if method.diverged[task] else "false"
            difference = "" if method is policy else loss - float(policy.loss[task])
            before = "" if isnan(method.curve[task, 0]) else float(method.curve[task, 0])
            member = comparison.members[task : task + 1]
            rows.writerow([task, name, loss, accuracy, diverged, difference, before, *member])
    write_text(path, text.getvalue())


def method_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The comparison as a flat table: a row per method, its intervals as two columns each; for trackers."""
    rows = []
    statistics = {"batch_statistics": comparison.batch_statistics} if comparison.batch_statistics else {}
    for name, record in results_record(comparison, {})["methods"].items():
        row: dict[str, Any] = {"method": name, "description": record["description"]} | statistics
        for quantity in ("loss", "accuracy"):
            interval = record[quantity]
            if interval is not None:
                row[quantity] = interval["mean"]
                row[f"{quantity}_low"], row[f"{quantity}_high"] = interval["ci95"]
        against = record["vs_policy"] or {"mean_difference": None, "ci95": (None, None), "win_rate": None}
        row["difference"] = against["mean_difference"]
        row["difference_low"], row["difference_high"] = against["ci95"]
        row["win_rate"] = against["win_rate"]
        rows.append(row | {key: record[key] for key in ("trials", "seconds", "inner_steps", "diverged")})
    return rows


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on: metaopt, Python, and the packages that compute."""
    packages = {package: _version(package) for package in RECORDED_PACKAGES}
    return {"metaopt": __version__, "python": platform.python_version(), **packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"  # a package that was put on the path by hand has no metadata


def _method_record(method: MethodOutcome, policy: MethodOutcome) -> dict[str, Any]:
    return {
        "description": method.description,
        "settings": method.settings,
        "loss": _interval_record(mean_interval(method.loss)),
        "accuracy": None if method.accuracy is None else _interval_record(mean_interval(method.accuracy)),
        "vs_policy": None if method is policy else _paired_record(method, policy),
        "trials": method.trials,
        "seconds": float(method.seconds),
        "inner_steps": int(method.inner_steps),
    }


def _interval_record(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "ci95": [interval.low, interval.high]}


def _paired_record(method: MethodOutcome, policy: MethodOutcome) -> dict[str, Any]:
    difference, win_rate = paired(method.loss, policy.loss)
    record: dict[str, Any] = {
        "mean_difference": difference.mean,
        "ci95": [difference.low, difference.high],
        "win_rate": win_rate,
    }
    if method.accuracy is not None and policy.accuracy is not None:
        accuracy = paired(method.accuracy, policy.accuracy).difference
        record["accuracy"] = {"mean_difference": accuracy.mean, "ci95": [accuracy.low, accuracy.high]}
    return record
