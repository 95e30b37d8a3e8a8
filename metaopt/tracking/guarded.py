"""Tracking must never cost a run: its first failure ends the tracking, not the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import numpy as np

from metaopt.tracking.none import NoTracker
from metaopt.tracking.tracker import Rows, Tracker


@final
class Guarded:
    """A tracker that warns once when the tracker inside fails, and is silent from then on.

    An interrupt is not a failure and goes through.
    """

    def __init__(self, tracker_factory: Callable[[], Tracker], warn: Callable[[str], None]) -> None:
        """Open the tracker.

        Args:
            tracker_factory: makes the tracker inside; it is guarded too.
            warn: is given one line if anything fails.
        """
        self._warn = warn
        self._tracker: Tracker = NoTracker()
        self._attempt(lambda: self._open(tracker_factory))

    def log(self, record: dict[str, Any], step: int) -> None:
        """See `Tracker.log`."""
        self._attempt(lambda: self._tracker.log(record, step))

    def histograms(self, values: dict[str, np.ndarray], step: int) -> None:
        """See `Tracker.histograms`."""
        self._attempt(lambda: self._tracker.histograms(values, step))

    def finish(
        self, tables: Mapping[str, Rows], figures: Sequence[Path], policy: Path | None, report: Path | None = None
    ) -> None:
        """See `Tracker.finish`."""
        self._attempt(lambda: self._tracker.finish(tables, figures, policy, report))

    def close(self) -> None:
        """See `Tracker.close`."""
        self._attempt(self._tracker.close)

    def _open(self, tracker_factory: Callable[[], Tracker]) -> None:
        self._tracker = tracker_factory()

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            broken, self._tracker = self._tracker, NoTracker()
            self._warn(
                f"tracking failed and is off for the rest of this run ({_line(error)}); "
                "tracking.mode=offline needs no network and no account, tracking=none no W&B"
            )
            with suppress(Exception):  # whatever it holds is let go of, and one line was enough
                broken.close()


def _line(error: Exception, most: int = 160) -> str:
    """An error in one line of bounded length."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
