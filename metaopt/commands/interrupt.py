"""Ctrl-C, SIGTERM and a terminal that is closed: finish the iteration, save, leave."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    """Turns the first of these signals into a request; a second one acts at once, as it would have without metaopt.

    Those that are ignored already stay so: nohup and a shell's background mean what they say.

    Args:
        quiet: do not say so.
    """
    request = StopRequest()
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def ask(number: int, _: FrameType | None) -> None:
        request.signal = number
        for known, handler in before.items():
            signal.signal(known, handler)
        if not quiet:
            with suppress(OSError, RuntimeError, ValueError):  # the terminal may be gone; what is to be saved is not
                print("stopping after this iteration; once more stops at once", file=sys.stderr, flush=True)

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
