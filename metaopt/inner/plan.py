"""How hypergradients will be computed: what was left open is chosen once, with a reason, before a run begins."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

METHODS = ("reverse", "mixed", "checkpointing", "truncated", "forward", "first_order")
FEW_STEPS = 4
"""Up to this horizon the whole graph is small, and compiles as one function."""
LONGEST_COMPILED_REVERSE = 8
"""Reverse mode compiles the whole unroll; a longer one would take minutes."""
COMPILE_SECONDS = 120
"""Estimated time of a run without compilation from which on compiling pays for itself."""
SHARE_OF_MEMORY = 0.25
MANY_TASKS = 64
"""Side by side where nothing is differentiated and many tasks are as quick as few."""


@dataclass(frozen=True)
class Plan:
    """A way to the hypergradient with nothing left to choose.

    Attributes:
        hypergradient: one of `METHODS`.
        task_chunk: tasks side by side in meta-training.
        adapt_chunk: tasks side by side where nothing is differentiated.
        compile: whether functions are compiled.
        why: the reasons, in words.
        workers: threads among which the chunks of a meta-batch are divided.
    """

    hypergradient: str
    task_chunk: int
    adapt_chunk: int
    compile: bool
    why: str
    workers: int = 1

    def describe(self) -> str:
        """One line for the log."""
        tasks = "one task at a time" if self.task_chunk == 1 else f"up to {self.task_chunk} tasks side by side"
        tasks += f" in each of {self.workers} threads" if self.workers > 1 else ""
        compiled = "compiled" if self.compile else "not compiled"
        wait = " Compiling makes the first iteration long, up to some minutes." if self.compile else ""
        return f"Hypergradients: {self.hypergradient}, {tasks}, {compiled} ({self.why}).{wait}"

    @staticmethod
    def from_json(data: Any) -> Plan:
        """The plan of a dictionary of its fields.

        Raises:
            TypeError, KeyError, ValueError: it is none.
        """
        kinds = {"hypergradient": str, "task_chunk": int, "adapt_chunk": int, "compile": bool, "why": str}
        kinds |= {"workers": int} if "workers" in data else {}  # which earlier plans did not have
        for name, kind in kinds.items():
            if type(data[name]) is not kind:
                raise TypeError(f"{name} is {data[name]!r}")
        plan = Plan(**{name: data[name] for name in kinds})
        if plan.hypergradient not in METHODS or min(plan.task_chunk, plan.adapt_chunk, plan.workers) < 1:
            raise ValueError(
                f"it says {plan.hypergradient!r} with task_chunk {plan.task_chunk} and workers {plan.workers}"
            )
        return plan


@dataclass(frozen=True)
class Workload:
    """What a choice looks at.

    Attributes:
        horizon: number of inner steps.
        iterations: meta-training iterations.
        meta_batch: tasks in each, of this process.
        tensors: number of the model's parameter tensors.
        carry: numbers that a task carries from step to step.
        activations: numbers that the model computes for one minibatch.
        itemsize: bytes of a number.
        convolutional: whether the model has convolutions, for which the best chunk is a matter of the machine.
    """

    horizon: int
    iterations: int
    meta_batch: int
    tensors: int
    carry: int
    activations: int
    itemsize: int
    convolutional: bool = True


def make_plan(
    workload: Workload,
    hypergradient: str,
    task_chunk: int | None,
    compile_: bool | None,
    seconds_at: Callable[[int], float],
    memory: int | None = None,
    threads: int = 1,
) -> Plan:
    """Chooses what is left open.

    Args:
        workload: what will be computed.
        hypergradient: one of `METHODS`, or `auto`.
        task_chunk: tasks side by side; None: to be measured.
        compile_: whether to compile; None: where the run is long enough to earn the time back.
        seconds_at: measures the time that a meta-batch takes in chunks of so many tasks.
        memory: bytes that the device has; None: those of the machine.
        threads: CPU threads that may train tasks of their own.
    """
    reasons: list[str] = []
    chunk_is_free = task_chunk is None
    if task_chunk is None:
        if workload.convolutional:
            task_chunk, reason = fastest_chunk(workload.meta_batch, seconds_at)
        else:  # not measured, so that equal runs leave equal files
            task_chunk, reason = workload.meta_batch, "matrix products are quickest together"
        adapt_chunk = task_chunk if task_chunk < workload.meta_batch else max(task_chunk, MANY_TASKS)
        reasons.append(reason)
    else:
        adapt_chunk = task_chunk
    if compile_ is None:
        compile_, reason = earns_compilation(workload, hypergradient, task_chunk)
        reasons.append(reason)
    # What is not compiled is Python's work, which goes on in one thread at a time; `forward` always has such a part.
    threads = threads if compile_ and hypergradient != "forward" else 1
    if chunk_is_free:
        task_chunk = min(task_chunk, -(-workload.meta_batch // threads))
    workers = min(threads, -(-workload.meta_batch // task_chunk))
    if hypergradient == "auto":
        budget = int(SHARE_OF_MEMORY * (machine_memory() if memory is None else memory))
        hypergradient, reason = choose_method(workload, task_chunk * workers, compile_, budget)
        reasons.insert(0, reason)
    return Plan(hypergradient, task_chunk, adapt_chunk, compile_, "; ".join(reasons) or "as configured", workers)


def choose_method(workload: Workload, chunk: int, compiled: bool, budget: int) -> tuple[str, str]:
    """The fastest exact way that fits into `budget` bytes, and why; `checkpointing` where none of the others does."""
    if workload.horizon <= FEW_STEPS:
        return "reverse", f"a graph of {workload.horizon} step{'s' if workload.horizon > 1 else ''} is small"
    step = workload.itemsize * min(chunk, workload.meta_batch)
    # A differentiable gradient keeps each activation and parameter several times over.
    graph = workload.horizon * step * (8 * workload.activations + 16 * workload.carry)
    if not compiled and graph <= budget // 4:
        return "reverse", f"the graph takes some {_megabytes(graph)}"
    stored = workload.horizon * step * workload.carry
    if stored <= budget:
        return "mixed", f"the stored steps take {_megabytes(stored)}"
    return "checkpointing", f"storing every step would take {_megabytes(stored)}"


def earns_compilation(workload: Workload, hypergradient: str, chunk: int) -> tuple[bool, str]:
    """Whether to compile, and why. Counts operations instead of measuring, so that equal runs decide alike."""
    if hypergradient == "reverse" and workload.horizon > LONGEST_COMPILED_REVERSE:
        return False, f"reverse mode is compiled up to {LONGEST_COMPILED_REVERSE} steps"
    groups = workload.iterations * -(-workload.meta_batch // chunk)
    seconds = groups * workload.tensors * (1.0e-3 + 0.4e-3 * workload.horizon)
    if seconds < COMPILE_SECONDS:
        return False, "the run is too short to earn compilation"
    return True, "the run is long enough to earn compilation"


def fastest_chunk(meta_batch: int, seconds_at: Callable[[int], float]) -> tuple[int, str]:
    """The chunk that was measured to be fastest, and why; a smaller one must be faster by a quarter."""
    if meta_batch == 1:
        return 1, "one task in a meta-batch"
    candidates = [size for size in (meta_batch, 4, 1) if size <= meta_batch]
    seconds = {size: seconds_at(size) for size in dict.fromkeys(candidates)}
    best = meta_batch
    for size, spent in seconds.items():
        if spent < 0.75 * seconds[best]:
            best = size
    measured = ", ".join(f"{size}: {1000 * spent:.0f} ms" for size, spent in seconds.items())
    return best, f"measured by tasks side by side {measured}"


def quickest(call: Callable[[], object], repeats: int = 2, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of the quickest of a few calls, after one that does not count; `wait` returns when all is computed."""
    call()
    wait()
    times: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - began)
    return min(times)


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _megabytes(size: int) -> str:
    return f"{max(1, round(size / 2**20))} MiB"
