"""Time of one hypergradient: metaopt's own engine against higher's loop, interleaved in one run.

    python benchmarks/engines.py [--repeats 5] [--threads 1]

Prints medians and their ratio for each workload; sampling is not counted. Ratios within one run are what to compare,
since machines are shared and differ.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.progress import track
from rich.table import Table

from metaopt.commands.launch import VERSION_BASE, config_folder
from metaopt.config.build import Job, build_job
from metaopt.config.load import train_config
from metaopt.outer.loop import sample

WORKLOADS = {
    "digits, MLP, 50 steps": ["tasks=digits"],
    "digits, conv4, 5 steps": ["model=conv4", "inner.horizon=5", "inner.task_chunk=2", "outer.meta_batch=4"],
    "sinusoid, 1 step": ["experiment=sinusoid_5shot"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("Workload", "native, s", "higher, s", "higher / native", title="one hypergradient of a meta-batch")
    for name, overrides in WORKLOADS.items():
        native, through_higher = measure(name, overrides, arguments.repeats)
        table.add_row(name, f"{native:.4f}", f"{through_higher:.4f}", f"{through_higher / native:.1f}")
    Console().print(table)


def measure(name: str, overrides: list[str], repeats: int) -> tuple[float, float]:
    """Median seconds of both engines, in turn, after a warm-up of each."""
    jobs = [job([*overrides, f"inner.engine={engine}"]) for engine in ("native", "higher")]
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in track(range(repeats + 1), name, transient=True):
        for one, kept in zip(jobs, seconds, strict=True):
            spent = hypergradient_seconds(one)
            if repeat:
                kept.append(spent)
    return median(seconds[0]), median(seconds[1])


def job(overrides: list[str]) -> Job:
    with initialize_config_dir(str(config_folder()), version_base=VERSION_BASE):
        return build_job(train_config(compose("train", overrides=overrides)))


def hypergradient_seconds(one: Job) -> float:
    problem = one.problem
    tasks, draws = sample(problem, "meta_train", one.outer.meta_batch, one.state.generator)
    began = time.perf_counter()
    problem.hypergradient(one.state.policy, problem.objective, tasks, draws, problem.horizon)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
