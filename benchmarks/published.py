"""The tables of papers with our numbers beside theirs: three seeds of each row, each trained if need be.

    python benchmarks/published.py --list
    python benchmarks/published.py --rows sinusoid_5shot/meta_sgd
    python benchmarks/published.py --rows 'sinusoid*' --seeds 0 1 2 --out runs/published
    python benchmarks/published.py --rows omniglot_5way_1shot tasks.root=DIR device=cuda

A row is named TABLE/METHOD; a table's name stands for all of its rows. Seeds that are finished are read from the output
folder, and one that was interrupted is gone on with: after Ctrl-C, type the same again. FIELD=VALUE goes to each run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from papers import ROWS, Row, Training
from rich import box
from rich.console import Console
from rich.table import Table
from seeds import check_same, run, script

from metaopt.evaluation.statistics import Interval, mean_interval
from metaopt.files import write_text


class Measured(NamedTuple):
    """A row of a table with what we got.

    Attributes:
        row: the row.
        seeds: by seed, the mean with its 95 % interval over held-out tasks.
        mean: over the seeds' means, with Student's 95 % interval; of no width for a single seed.
        n_tasks: held-out tasks of each seed.
        statistics: how test sets were predicted, `transductive` or `inductive`; "" where batch statistics play no part.
    """

    row: Row
    seeds: dict[int, Interval]
    mean: Interval
    n_tasks: int
    statistics: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of train_meta.py, for each run")
    parser.add_argument("--rows", nargs="+", default=["sinusoid*"], metavar="ROW", help="names or patterns of rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--list", action="store_true", help="say which rows there are, and run nothing")
    arguments = parser.parse_intermixed_args()
    console = Console()
    if arguments.list:
        for row in ROWS:
            console.print(
                f"[bold]{row.name}[/]  {number(row, row.paper)}  {row.source}\n    {command(row)}", soft_wrap=True
            )
        return
    rows = chosen(arguments.rows)
    measured = [each for row in rows for each in measure(row, arguments.seeds, arguments.out, arguments.overrides)]
    console.print(table(measured))
    path = arguments.out / "table.md"
    write_text(path, markdown(measured) + "\n")
    console.print(f"As Markdown: {path}", highlight=False)


def chosen(patterns: list[str]) -> list[Row]:
    """The rows of these names, tables or patterns, in the order of the tables."""
    for pattern in patterns:
        if not any(_fits(row, pattern) for row in ROWS):
            raise SystemExit(f"--rows {pattern}: there is no such row; --list names them")
    return [row for row in ROWS if any(_fits(row, pattern) for pattern in patterns)]


def _fits(row: Row, pattern: str) -> bool:
    return fnmatch(row.name, pattern) or fnmatch(row.table, pattern)


def measure(row: Row, seeds: list[int], out: Path, overrides: list[str]) -> list[Measured]:
    """Trains and evaluates what is not there yet; with batch normalisation there are two results of each row."""
    found = {seed: results(row, seed, out, overrides) for seed in seeds}
    ways = min(len(records) for records in found.values())
    return [_measured(row, {seed: records[i] for seed, records in found.items()}) for i in range(ways)]


def _measured(row: Row, found: dict[int, dict[str, Any]]) -> Measured:
    scale = 100.0 if row.measure == "accuracy" else 1.0
    intervals = {}
    for seed, record in found.items():
        scored = record["methods"]["policy"][row.measure]
        intervals[seed] = Interval(*(scale * value for value in (scored["mean"], *scored["ci95"])))
    first = next(iter(found.values()))
    mean = mean_interval(np.array([interval.mean for interval in intervals.values()]))
    return Measured(row, intervals, mean, first["n_tasks"], statistics(first))


def results(row: Row, seed: int, out: Path, overrides: list[str]) -> list[dict[str, Any]]:
    """The content of the results.json that answers a row, and of results_inductive.json where there is one."""
    trained = meta_train(row.training, seed, out, overrides)
    if not row.evaluate:
        return _records(trained)
    folder = out / row.name / f"seed-{seed}"
    check_same(folder, [*row.evaluate, *overrides])
    if not (folder / "results.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # an evaluation that was interrupted begins again
        script("evaluate.py", [f"checkpoint={trained}", f"run_dir={folder}", f"seed={seed}", *row.evaluate])
    return _records(folder)


def meta_train(training: Training, seed: int, out: Path, overrides: list[str]) -> Path:
    """The folder of a run, made if need be, after the one that it begins with."""
    folder = out / training.name / f"seed-{seed}"
    start = [f"outer.start={meta_train(training.start, seed, out, overrides)}"] if training.start else []
    run(seed, folder, [*training.words, *start, *overrides])
    return folder


def _records(folder: Path) -> list[dict[str, Any]]:
    paths = [folder / "results.json", folder / "results_inductive.json"]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def statistics(record: dict[str, Any]) -> str:
    """Whose statistics batch normalisation took, as the record says; one from before there was a choice has a note."""
    noted = any(note.startswith("batch normalisation by the batch's own") for note in record["notes"])
    return record.get("batch_statistics") or ("transductive" if noted else "")


def command(row: Row) -> str:
    """What to type for one seed of a row."""
    trainings = [row.training]
    while start := trainings[0].start:
        trainings.insert(0, start)
    lines = []
    for i, training in enumerate(trainings):
        begun = [f"outer.start=RUN_{i}"] if i else []
        used = [f"run_dir=RUN_{i + 1}"] if training is not row.training or row.evaluate else []
        lines.append(shlex.join(["python", "train_meta.py", *training.words, *begun, *used, "seed=0"]))
    if row.evaluate:
        lines.append(shlex.join(["python", "evaluate.py", f"checkpoint=RUN_{len(trainings)}", *row.evaluate]))
    return " && ".join(lines)


def number(row: Row, value: float) -> str:
    return f"{value:.3f}" if row.measure == "loss" else f"{value:.2f} %"


def with_reach(row: Row, interval: Interval) -> str:
    """Mean ± half of the interval."""
    reach = interval.high - interval.mean
    return f"{interval.mean:.3f} ± {reach:.3f}" if row.measure == "loss" else f"{interval.mean:.2f} ± {reach:.2f} %"


def as_good(measured: Measured) -> bool:
    """Whether our mean is at least as good as the paper's."""
    row, ours = measured.row, measured.mean.mean
    return ours <= row.paper if row.measure == "loss" else ours >= row.paper


def cells(measured: Measured) -> list[str]:
    row = measured.row
    notes = ", ".join(word for word in (measured.statistics, row.note) if word)
    each = [with_reach(row, interval) for interval in measured.seeds.values()]
    return [row.name, number(row, row.paper), with_reach(row, measured.mean), *each, notes]


def titles(measured: list[Measured]) -> list[str]:
    return ["row", "paper", "ours", *(f"seed {seed}" for seed in measured[0].seeds), "notes"]


def caption(measured: list[Measured]) -> str:
    sizes = " or ".join(str(n) for n in sorted({each.n_tasks for each in measured}))
    return (
        "ours: mean of the seeds, ± half of Student's 95 % interval over seeds; "
        f"of a seed: mean of {sizes} held-out tasks, ± over tasks"
    )


def table(measured: list[Measured]) -> Table:
    """For the terminal, intervals below their means; what is at least as good as the paper is green."""
    found = Table(caption=caption(measured), caption_justify="left", box=box.SIMPLE_HEAD)
    for title in titles(measured)[:-1]:
        found.add_column(title, no_wrap=title != "row")
    for each in measured:
        name, *numbers, notes = cells(each)
        numbers = [words.replace(" ± ", "\n±") for words in numbers]
        if as_good(each):
            numbers[1] = f"[green]{numbers[1]}[/]"
        found.add_row("\n  ".join([*name.split("/"), *([notes] if notes else [])]), *numbers)
    return found


def markdown(measured: list[Measured]) -> str:
    """The same as Markdown, with the command of each row."""
    head = [*titles(measured), "command"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for each in measured:
        words = cells(each)
        words[2] = f"**{words[2]}**" if as_good(each) else words[2]
        lines.append(f"| {' | '.join([*words, f'`{command(each.row)}`'])} |")
    return "\n".join([*lines, "", f"{caption(measured)}."])


if __name__ == "__main__":
    main()
