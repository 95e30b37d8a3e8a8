"""Time of an inner step and peak memory against the horizon, for each of metaopt's ways to the hypergradient.

    python benchmarks/horizon.py [--horizons 25 50 …] [--candidates ours:reverse jax …] [--repeats 3]

The MLP of the workload `mlp100`, at one horizon after the other. At each the candidates take turns, each in a process
of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from candidates.ours import METHODS
from engines import Result, check, label, measure, progress_bar, warn_if_busy
from machine import machine
from rich.console import Console
from rich.table import Table
from workloads import WORKLOADS

from metaopt.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--horizons", type=int, nargs="+", default=[25, 50, 100, 200, 400, 1000])
    parser.add_argument("--candidates", nargs="+", default=[f"ours:{name}" for name in METHODS], metavar="NAME")
    parser.add_argument("--workload", default="mlp100", choices=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/horizon.json"))
    arguments = parser.parse_args()
    check(parser, [arguments.workload], arguments.candidates)
    console = Console(width=None if Console().is_terminal else 120)
    record: Result = {
        "kind": "horizon",
        "format": 1,
        "machine": machine(),
        "title": WORKLOADS[arguments.workload].title,
        "tasks": WORKLOADS[arguments.workload].tasks,
        "horizons": {},
    }
    warn_if_busy(console, record["machine"]["load"], record["machine"]["cores"])
    with progress_bar(console, len(arguments.horizons), arguments.candidates, arguments.repeats) as (describe, advance):
        for horizon in sorted(arguments.horizons):
            describe(f"{horizon} steps")
            found = measure(f"{arguments.workload}@{horizon}", arguments.candidates, arguments.repeats, advance)
            record["horizons"][str(horizon)] = found["results"]
            write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    console.print(table(record, arguments.candidates))
    for horizon, results in record["horizons"].items():
        for one in results.values():
            if "left_out" in one:
                console.print(f"{one['label']} at {horizon} steps: left out, {one['left_out']}")
    console.print(f"saved {arguments.json}")


def table(record: Result, names: list[str]) -> Table:
    """Milliseconds of an inner step of the whole meta-batch, and the memory that the meta-iteration added."""
    rows = Table("", title="ms per inner step; MiB added", title_justify="left")
    for horizon in record["horizons"]:
        rows.add_column(f"{horizon} steps", justify="right")
    for name in names:
        results = [(int(horizon), one[name]) for horizon, one in record["horizons"].items()]
        rows.add_row(label(name), *(cell(horizon, one) for horizon, one in results))
    return rows


def cell(horizon: int, one: Result) -> str:
    if "left_out" in one:
        return "–"
    return f"{1e3 * one['median'] / horizon:.2f}; {one['added_mib']:.0f}"


if __name__ == "__main__":
    main()
