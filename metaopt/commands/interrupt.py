"""Ctrl-C and SIGTERM: finish the iteration, save, leave."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers the signal that asked for a stop.

    Attributes:
        signal: its number, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + signal number, as shells have it; that of SIGTERM where only another process was asked."""
        return 128 + (self.signal or signal.SIGTERM)


@contextmanager
def stop_on_signals(quiet: bool = False) -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request; a second one acts at once, as it would have without metaopt.

    Args:
        quiet: do not say so.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: FrameType | None) -> None:
        request.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)
        if not quiet:
            print("stopping after this iteration; once more stops at once", file=sys.stderr, flush=True)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
