"""One policy's runs against other runs on the same tasks, run by run and over all: figures that the README quotes.

    python benchmarks/paired.py --policy RUN RUN --rival OTHER OTHER
    python benchmarks/paired.py --policy RUN RUN --rival RUN RUN --method tpe

The n-th rival is held against the n-th policy, table by table, from the tasks.csv of each. Differences are the rival's
less the policy's, with 95 % intervals over tables; over all runs a table counts once. Where tasks are not of tables,
each stands for itself.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from metaopt.evaluation.statistics import mean_interval

Scores = dict[str, np.ndarray]
"""Loss and accuracy by table, or by task of a run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, nargs="+", required=True, help="run directories")
    parser.add_argument("--rival", type=Path, nargs="+", required=True, help="as many")
    parser.add_argument("--method", default="policy", help="the rival's method")
    arguments = parser.parse_args()
    differences: dict[str, list[np.ndarray]] = {}
    for run, (ours, theirs) in enumerate(zip(arguments.policy, arguments.rival, strict=True)):
        policy, rival = scores(run, ours, "policy"), scores(run, theirs, arguments.method)
        own = {table: rival[table] - policy[table] for table in policy}
        for table, difference in own.items():
            differences.setdefault(table, []).append(difference)
        means = [np.mean(list(found.values()), 0) for found in (policy, rival)]
        print(f"{ours}: {row(means[0])}; {theirs}, {arguments.method}: {row(means[1])}; {interval(list(own.values()))}")
    print(f"all {len(differences)}: {interval([np.mean(each, 0) for each in differences.values()])}")


def scores(run: int, folder: Path, method: str) -> Scores:
    """The mean loss and accuracy of a method on each table, or on each task of the run."""
    found: dict[str, list[list[float]]] = {}
    for entry in csv.DictReader((folder / "tasks.csv").read_text().splitlines()):
        if entry["method"] == method:
            of = entry.get("member", f"{run}: {entry['task']}")
            found.setdefault(of, []).append([float(entry["loss"]), float(entry["accuracy"])])
    if not found:
        raise SystemExit(f"{folder}/tasks.csv has no method {method}")
    return {table: np.mean(rows, 0) for table, rows in found.items()}


def row(mean: np.ndarray) -> str:
    return f"{mean[0]:.3f}, {100 * mean[1]:.1f} %"


def interval(differences: list[np.ndarray]) -> str:
    loss, accuracy = (mean_interval(values) for values in np.stack(differences, 1) * np.array([[1.0], [100.0]]))
    return (
        f"loss {loss.mean:+.3f} [{loss.low:+.3f}, {loss.high:+.3f}], "
        f"points {accuracy.mean:+.1f} [{accuracy.low:+.1f}, {accuracy.high:+.1f}]"
    )


if __name__ == "__main__":
    main()
