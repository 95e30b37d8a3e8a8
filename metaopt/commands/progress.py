"""Progress that people watch: bars with an ETA on a terminal, a line now and then in a log file."""

from __future__ import annotations

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
    lines, done = _Lines(console, title, total), 0
    with _bar(console, transient=True) as progress:
        bar = progress.add_task(title, total=total, text="")

        def advance(n: int) -> None:
            nonlocal done
            done += n
            progress.update(bar, completed=done)
            lines.say(done)

        yield advance


class MetaTrainingProgress:
    """Follows the records of meta-training.

    Args:
        console: where to draw.
        iterations: their total number.
        done: how many are done at the start.
    """

    def __init__(self, console: Console, iterations: int, done: int) -> None:
        self._iterations = iterations
        self._progress = _bar(console, transient=False)
        self._bar = self._progress.add_task("meta-training", total=iterations, completed=done, text="")
        self._smooth: float | None = None
        self._validation: float | None = None
        self._dropped = 0
        self._lines = _Lines(console, "meta-training", iterations, done)

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
        is_last = record["iteration"] == self._iterations and record["kind"] == "meta_validation"
        self._lines.say(record["iteration"], self._text(), at_once=is_last)

    def _text(self) -> str:
        words = [
            f"{name} {value:.3f}"
            for name, value in (("loss", self._smooth), ("validation", self._validation))
            if value is not None
        ]
        if self._dropped:
            words.append(f"dropped {self._dropped}")
        return ", ".join(words)


class _Lines:
    """How far something is, now and then, where there is no terminal to draw a bar on.

    Args:
        console: to whose file it is written.
        title: of what is under way.
        total: how much of it there is.
        first: how much was done before.
    """

    def __init__(self, console: Console, title: str, total: int, first: int = 0) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._first = first
        self._began = self._last = time.monotonic()

    def say(self, done: int, text: str = "", at_once: bool = False) -> None:
        """Writes a line if it is time for one, or `at_once`; `text` comes before the time that is left."""
        now = time.monotonic()
        drawn = self._console.is_terminal or self._console.quiet
        if drawn or not (at_once or now - self._last > SECONDS_BETWEEN_LINES):
            return
        self._last = now
        left = (self._total - done) * (now - self._began) / max(1, done - self._first)
        words = f"{text}, " if text else ""
        print(f"{self._title} {done}/{self._total}: {words}{left:.0f} s left", file=self._console.file, flush=True)


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
