"""Does a long-lived process stay as large as it is? Its memory, open descriptors and threads, along the way.

    python benchmarks/soak.py                                    # 10,000 iterations twice, 200 fits, 50 evaluations
    python benchmarks/soak.py --iterations 500 --fits 20 --evaluations 10 --json runs/benchmarks/soak.json

All parts run in one process: meta-training eager and compiled, fits of the estimators, evaluations.
The first half of each part is warm-up. In its second half the line through the resident memory may rise by no more than
`BOUND` MB, and descriptors and threads must stay the same. Exits 1 where they do not. Linux only, since it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import machine
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metaopt.estimators import MetaTunedClassifier, MetaTunedRegressor
from metaopt.evaluation.compare import Method, compare
from metaopt.files import replacing, write_text
from metaopt.inner.compile import Inductor
from metaopt.inner.mixed import Mixed
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.outer.loop import Validation, meta_train, sample
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.state import MetaState, new_state
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.tasks.sinusoid import Sinusoid
from metaopt.types import Kind

BOUND = 8.0
"""MB that the resident memory may rise by in the second half of a part."""
POINTS = 400
"""Samples that are kept of a part, at most."""
HORIZON = 3
SETTINGS = PolicySettings(
    lr=StrengthSettings("learned", 0.02, "element"),
    momentum=MomentumSettings("learned", 0.5),
    schedule="step",
    init=InitSettings("learned"),
)
Work = Callable[[int, Callable[[], None]], None]
"""Does something so many times, and calls the function after each."""


class Sample(NamedTuple):
    """What a process holds after so many turns: resident memory in MB, open descriptors, threads."""

    turn: int
    memory: float
    descriptors: int
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=10_000, help="of meta-training, eager and again compiled")
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--json", type=Path, default=Path("results/soak.json"))
    parser.add_argument("--figure", type=Path, help="a PNG; without: beside the JSON")
    arguments = parser.parse_args()
    parts: list[tuple[str, int, Work]] = [
        ("iterations, eager", arguments.iterations, train_eager),
        ("iterations, compiled", arguments.iterations, train_compiled),
        ("estimator fits", arguments.fits, fit),
        ("evaluations", arguments.evaluations, evaluate),
    ]
    for name, turns, _ in parts:
        if turns < 4:
            parser.error(f"{name}: a trend needs 4 or more, but {turns} are asked for; raise it")
    console = Console()
    record: dict[str, Any] = {
        "kind": "soak",
        "format": 1,
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(),
        "bound_mb": BOUND,
        "parts": {},
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console) as progress:
        for name, turns, work in parts:
            bar = progress.add_task(name, total=turns)
            began = time.perf_counter()
            samples = watch(work, turns, lambda bar=bar: progress.advance(bar))
            seconds = time.perf_counter() - began
            record["parts"][name] = {"seconds": round(seconds, 1), **verdict(samples), "samples": samples}
            write_text(arguments.json, json.dumps(record) + "\n")
    figure = arguments.figure or arguments.json.with_suffix(".png")
    draw(record, figure)
    for name, part in record["parts"].items():
        console.print(f"{name}: {'flat' if part['flat'] else 'NOT FLAT'}, {part['rise_mb']:+.2f} MB in the second half")
    console.print(f"saved {arguments.json} and {figure}", highlight=False)
    raise SystemExit(0 if all(part["flat"] for part in record["parts"].values()) else 1)


def watch(work: Work, turns: int, advance: Callable[[], None] = lambda: None) -> list[Sample]:
    """Samples taken while `work` takes its turns: `POINTS` at most, evenly apart, and the last turn's."""
    every = math.ceil(turns / POINTS)
    samples: list[Sample] = []
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        advance()
        if done % every == 0 or done == turns:
            samples.append(taken(done))

    work(turns, tick)
    return samples


def taken(turn: int) -> Sample:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Sample(turn, round(memory, 3), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))


def verdict(samples: Sequence[Sample]) -> dict[str, Any]:
    """Whether the second half of the turns is flat, and by how much memory rose in it."""
    late = [one for one in samples if 2 * one.turn >= samples[-1].turn]
    rise = trend([one.turn for one in late], [one.memory for one in late])
    same = all(len({getattr(one, field) for one in late}) == 1 for field in ("descriptors", "threads"))
    return {"flat": bool(rise <= BOUND and same), "rise_mb": round(rise, 3)}


def trend(turns: Sequence[float], values: Sequence[float]) -> float:
    """How far the line of least squares rises from the first turn to the last."""
    slope = np.polyfit(np.asarray(turns, float) - turns[0], values, 1)[0]
    return float(slope * (turns[-1] - turns[0]))


def train_eager(turns: int, tick: Callable[[], None]) -> None:
    """Iterations of meta-training, functions called as they are."""
    _train(_problem(Mixed()), turns, tick)


def train_compiled(turns: int, tick: Callable[[], None]) -> None:
    """Iterations of meta-training, compiled; a compiler that does not work is an error here."""
    _train(_problem(Mixed(compiler=Inductor(warn=_refuse))), turns, tick)


def _refuse(message: str) -> None:
    raise SystemExit(f"soak: {message}")


def _problem(method: Mixed) -> InnerProblem:
    family = Sinusoid()
    model = mlp(family.spec, [8], "tanh")
    return InnerProblem(family, model, objective(model, Kind.regression), HORIZON, None, method)


def _state(problem: InnerProblem, settings: OuterSettings) -> MetaState:
    policy = Policy(
        SETTINGS,
        problem.model.shapes,
        problem.model.init,
        HORIZON,
        torch.Generator().manual_seed(0),
        problem.model.roles,
    )
    return new_state(policy, settings, torch.Generator().manual_seed(1))


def _train(problem: InnerProblem, turns: int, tick: Callable[[], None]) -> None:
    settings = OuterSettings(iterations=turns, meta_batch=4, lr=1e-3, validate_every=50, checkpoint_every=turns)
    validation = Validation(*sample(problem, "meta_validation", 8, torch.Generator().manual_seed(2)))

    def log(record: Any) -> None:
        if record["kind"] == "meta_train":
            tick()

    meta_train(problem, settings, _state(problem, settings), validation, log, lambda state: None)


def fit(turns: int, tick: Callable[[], None]) -> None:
    """Fits and predictions of a classifier and a regressor in turn, on tables of differing lengths."""
    generator = np.random.default_rng(0)
    for turn in range(turns):
        x = generator.normal(size=(40 + turn % 5, 4))
        kind, y = ((MetaTunedRegressor, x[:, 0]), (MetaTunedClassifier, (x[:, 0] > 0).astype(int)))[turn % 2]
        kind(steps=20, n_networks=2, random_state=turn).fit(x, y).predict(x)
        tick()


def evaluate(turns: int, tick: Callable[[], None]) -> None:
    """Evaluations of a policy on held-out tasks."""
    problem = _problem(Mixed())
    policy = _state(problem, OuterSettings()).policy
    for turn in range(turns):
        tasks, draws = sample(problem, "meta_test", 100, torch.Generator().manual_seed(turn))
        compare(
            [Method("policy", "policy", policy)],
            problem.objective,
            tasks,
            draws,
            HORIZON,
            family_name=problem.family.name,
            kind=Kind.regression,
            split="meta_test",
            split_hash=problem.family.split_hash,
            seed=turn,
        )
        tick()


def commit() -> str:
    """The commit of the working tree, with "+" where it was changed; "" outside a repository."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def draw(record: dict[str, Any], path: Path) -> None:
    """A row for each quantity, a column for each part; the second halves, which are judged, are shaded."""
    parts = record["parts"]
    figure = Figure(figsize=(3.2 * len(parts), 6), layout="constrained")
    axes = figure.subplots(3, len(parts), sharex="col", squeeze=False)
    for column, (name, part) in enumerate(parts.items()):
        turns, *quantities = zip(*part["samples"], strict=True)
        axes[0, column].set_title(f"{part['rise_mb']:+.2f} MB", fontsize=9)
        for row, (label, values) in enumerate(zip(("resident MB", "descriptors", "threads"), quantities, strict=True)):
            axis = axes[row, column]
            axis.plot(turns, values, linewidth=1)
            axis.axvspan(turns[-1] / 2, turns[-1], color="0.92", zorder=0)
            axis.set_ylim(0, 1.15 * max(values))
            if column == 0:
                axis.set_ylabel(label)
        axes[2, column].set_xlabel(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


if __name__ == "__main__":
    main()
