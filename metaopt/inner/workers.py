"""Groups of tasks in threads of their own, which with compiled steps beats threads inside each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


def spread(work: Callable[[S], T], parts: Sequence[S], workers: int) -> list[T]:
    """The results of `work` for each part, in order.

    Threads of their own need no waiting for each other after each operation. That is what makes threads inside
    operations slow where operations are small, and many times slower where other programs want the cores too.

    Args:
        work: may be called in several threads at once.
        parts: what it is called with.
        workers: threads at most, among which those that torch is set to are divided. With 1, or a single part, all is
            done in the calling thread.

    Raises:
        Whatever `work` raises for the first part for which it does, once no thread is at work any more.
    """
    workers = min(workers, len(parts))
    if workers < 2:
        return [work(part) for part in parts]
    threads = torch.get_num_threads()
    each = max(1, threads // workers)
    torch.set_num_threads(each)
    try:
        calls = [_pool(workers, each).submit(work, part) for part in parts]
        try:
            return [call.result() for call in calls]
        finally:
            for call in calls:
                call.cancel()  # what has not begun, where another part failed
            wait(calls)
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads that stay, because each new one would set up its own of everything."""
    return ThreadPoolExecutor(workers, "metaopt", initializer=torch.set_num_threads, initargs=(threads,))
