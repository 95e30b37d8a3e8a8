"""Progress that people watch: bars with an ETA on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from metaopt.outer.metrics import Record
from metaopt.report.overview import overview_table
from metaopt.tasks.family import TaskFamily
from metaopt.tasks.tables.overview import WithOverview

SECONDS_BETWEEN_LINES = 10.0


def make_console(quiet: bool = False) -> Console:
    """Where progress and tables go; narrow logs get a readable width, and `quiet` leaves nothing to be seen."""
    if quiet:
        return Console(quiet=True, force_terminal=False)
    console = Console()
    return console if console.is_terminal else Console(width=100)


def show_tables(families: Iterable[TaskFamily], console: Console) -> None:
    """Prints what the families of tables among these hold, and what was inferred and left out, before any work."""
    for family in families:
        if isinstance(family, WithOverview):
            console.print(overview_table(family.overview()), highlight=False)


@contextmanager
def progress_bar(console: Console, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that disappears when it is done.

    Yields:
        A function that advances the bar.
    """
    with _bar(console, transient=True) as progress:
        bar = progress.add_task(title, total=total, text="")
        yield lambda n: progress.update(bar, advance=n)


class MetaTrainingProgress:
    """Follows the records of meta-training.

    Args:
        console: where to draw.
        iterations: their total number.
        done: how many are done at the start.
    """

    def __init__(self, console: Console, iterations: int, done: int) -> None:
        self._console = console
        self._iterations = iterations
        self._first = done
        self._progress = _bar(console, transient=False)
        self._bar = self._progress.add_task("meta-training", total=iterations, completed=done, text="")
        self._smooth: float | None = None
        self._validation: float | None = None
        self._dropped = 0
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> MetaTrainingProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, record: Record) -> None:
        """Takes one record of the outer loop."""
        loss = record["loss"]
        if record["kind"] == "meta_validation":
            self._validation = loss
        elif loss is not None:
            self._smooth = loss if self._smooth is None else 0.9 * self._smooth + 0.1 * loss
        self._dropped += record.get("dropped", 0)
        self._progress.update(self._bar, completed=record["iteration"], text=self._text())
        now = time.monotonic()
        is_last = record["iteration"] == self._iterations and record["kind"] == "meta_validation"
        if not self._console.is_terminal and (now - self._last_line > SECONDS_BETWEEN_LINES or is_last):
            self._last_line = now
            self._print_line(record["iteration"], now - self._began)

    def _text(self) -> str:
        words = [
            f"{name} {value:.3f}"
            for name, value in (("loss", self._smooth), ("validation", self._validation))
            if value is not None
        ]
        if self._dropped:
            words.append(f"dropped {self._dropped}")
        return ", ".join(words)

    def _print_line(self, iteration: int, seconds: float) -> None:
        left = (self._iterations - iteration) * seconds / max(1, iteration - self._first)
        print(
            f"meta-training {iteration}/{self._iterations}: {self._text()}, {left:.0f} s left", file=self._console.file
        )
        sys.stdout.flush()


def _bar(console: Console, transient: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )
