"""Time and memory of one meta-iteration, sampling not counted: metaopt, higher, JAX, TorchOpt and Betty in one run.

    python benchmarks/engines.py [--workloads sinusoid mlp50 …] [--candidates ours higher …] [--device cuda]

Each candidate has a process of its own, kept to the workload's cores. First all must compute the same hypergradient:
in float64 to 1e-6; the float32 of the timings is reported beside it (a ReLU or a maximum that falls on the other side
shows there). Then they take turns, so that what else the machine does falls on all alike. `ours:METHOD` is one way of
metaopt's; `ours:METHOD/N` has N tasks side by side. On a GPU only some candidates run here. Ratios within one run are
what to compare. Peers: pip install -e '.[bench]'
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from candidates import CANDIDATES, available, entry
from children import Child, ChildError, disagreement
from machine import machine
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from workloads import WORKLOADS, workload

from metaopt.files import write_text

TOLERANCE = 1e-6
"""Largest relative difference of hypergradients in float64."""
WARM_UP = 2
LEAST_TURN = 0.05
"""Seconds that a turn should last: shorter meta-iterations are repeated within it."""
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["sinusoid", "mlp50", "mlp400", "conv4"], metavar="KEY")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=15, help="rounds in which each candidate has a turn")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/engines.json"))
    arguments = parser.parse_args()
    check(parser, arguments.workloads, arguments.candidates)
    console = Console(width=None if Console().is_terminal else 120)
    record: Result = {"kind": "engines", "format": 1, "machine": machine(), "workloads": {}}
    warn_if_busy(console, record["machine"]["load"], record["machine"]["cores"])
    with progress_bar(console, len(arguments.workloads), arguments.candidates, arguments.repeats) as (
        describe,
        advance,
    ):
        for key in arguments.workloads:
            describe(key)
            record["workloads"][key] = measure(key, arguments.candidates, arguments.repeats, advance, arguments.device)
            write_text(arguments.json, json.dumps(record, indent=1) + "\n")
            console.print(table(record["workloads"][key]))
            for one in record["workloads"][key]["results"].values():
                if "left_out" in one:
                    console.print(f"{one['label']}: left out, {one['left_out']}")
    console.print(f"saved {arguments.json}")


def warn_if_busy(console: Console, load: float, cores: int) -> None:
    """Says so where others use the machine: threads of torch that wait for a core slow it down many times over."""
    if load > 0.5 * cores:
        console.print(f"the machine is busy (load {load:.1f} on {cores} cores): these timings will not be worth much")


def check(parser: argparse.ArgumentParser, keys: list[str], names: list[str]) -> None:
    """Ends the program on an unknown workload or candidate."""
    for key in keys:
        if key.partition("@")[0] not in WORKLOADS:
            parser.error(f"unknown workload '{key}'; choose from {', '.join(WORKLOADS)}")
    for name in names:
        if name.partition(":")[0] not in CANDIDATES:
            parser.error(f"unknown candidate '{name}'; choose from {', '.join(CANDIDATES)}")


def measure(
    key: str, names: list[str], repeats: int, advance: Callable[[], None] = lambda: None, device: str = "cpu"
) -> Result:
    """All candidates on one workload; the first that runs, `ours` by default, is what others are compared with."""
    results: dict[str, Result] = {}
    load = workload(key)
    with ExitStack() as stack:
        children: dict[str, Child] = {}
        for name in names:
            results[name] = {"label": label(name), "version": available(name)}
            if results[name]["version"] is None:
                results[name]["left_out"] = "not installed; pip install -e '.[bench]'"
                continue
            if device != "cpu" and not entry(name)[0].on_gpu:
                results[name]["left_out"] = f"runs on the CPU only in this benchmark, not on {device}"
                continue
            try:
                children[name] = stack.enter_context(Child(name, key, device=device))
            except ChildError as error:
                results[name]["left_out"] = str(error)
        _compare(key, children, results, advance, device)
        seconds = _take_turns(children, results, repeats, advance)
        for name, child in children.items():
            advance()
            if "left_out" in results[name]:
                continue
            try:
                results[name] |= child.memory()
            except ChildError as error:
                results[name]["left_out"] = str(error)
    timed = [name for name in names if seconds.get(name) and "left_out" not in results[name]]
    for name in timed:
        results[name] |= {"seconds": seconds[name], "median": median(seconds[name])}
        results[name]["ratio"] = results[name]["median"] / results[timed[0]]["median"]
    reference = timed[0] if timed else None
    about = {"title": load.title, "threads": load.threads, "device": device}
    return about | {"reference": reference, "results": results}


def _compare(
    key: str, children: dict[str, Child], results: dict[str, Result], advance: Callable[[], None], device: str
) -> None:
    """Hypergradients against the first candidate's, in float32 and float64; who differs is left out of the timing."""
    reference: dict[str, Any] = {}
    for name, child in children.items():
        advance()
        try:
            with Child(name, key, "float64", device) as exact:
                found = {"error32": child.hypergradients(), "error64": exact.hypergradients()}
        except ChildError as error:
            results[name]["left_out"] = str(error)
            continue
        reference = reference or found
        for precision, grads in found.items():
            results[name][precision], worst = disagreement(grads, reference[precision])
        if not results[name]["error64"] < TOLERANCE:
            results[name]["left_out"] = f"another hypergradient: {worst} differs by {results[name]['error64']:.1e}"


def _take_turns(
    children: dict[str, Child], results: dict[str, Result], repeats: int, advance: Callable[[], None]
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in children}
    iterations = dict.fromkeys(children, 1)
    for turn in range(WARM_UP + repeats):
        for name, child in children.items():
            advance()
            if "left_out" in results[name]:
                continue
            try:
                spent = child.seconds(iterations[name])
            except ChildError as error:
                results[name]["left_out"] = str(error)
                continue
            if turn < WARM_UP:
                iterations[name] = max(1, math.ceil(LEAST_TURN / spent))
            else:
                seconds[name].append(spent)
    return seconds


def label(candidate: str) -> str:
    found, variant = entry(candidate)
    return f"{found.label} ({variant})" if variant else found.label


def table(result: Result) -> Table:
    """A row for each candidate that ran."""
    threads = result["threads"]
    where = f"{threads} thread{'s' if threads > 1 else ''}" if result["device"] == "cpu" else "on the GPU"
    caption = f"{where}; memory: added by the meta-iteration, and peak"
    rows = Table("", "version", title=result["title"], caption=caption, title_justify="left")
    for heading in ("median, ms", "× reference", "added, MiB", "peak, MiB", "error, f32", "f64"):
        rows.add_column(heading, justify="right")
    for name, one in result["results"].items():
        if "left_out" in one:
            continue
        reference = name == result["reference"]
        errors = ("", "") if reference else (f"{one['error32']:.0e}", f"{one['error64']:.0e}")
        memory = (f"{one[key]:.0f}" for key in ("added_mib", "peak_mib"))
        median_ms, ratio = f"{1e3 * one['median']:.4g}", f"{one['ratio']:.2f}"
        rows.add_row(one["label"], one["version"], median_ms, ratio, *memory, *errors)
    return rows


@contextmanager
def progress_bar(
    console: Console, workloads: int, candidates: list[str], repeats: int
) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar over all turns of all candidates.

    Yields:
        A function that describes what runs, and one that advances the bar by a turn.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=workloads * len(candidates) * (WARM_UP + repeats + 2))
        yield lambda text: progress.update(bar, description=text), lambda: progress.advance(bar)


if __name__ == "__main__":
    main()
