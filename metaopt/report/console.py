"""The comparison as a table for the terminal; it fits into 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.statistics import Interval, Paired, mean_interval, paired
from metaopt.report.cells import NONE, VERDICT_STYLES, Column, interval_cells
from metaopt.report.headline import POLICY, headline, verdict
from metaopt.report.numbers import share

__all__ = ["comparison_table", "headline"]


def comparison_table(comparison: Comparison) -> Table:
    """One row per method: test loss, accuracy, the paired difference to the policy, and what it cost to tune.

    Every interval stands below its mean. Columns that would be empty (accuracy in regression, trials without a search,
    diverged without divergence) are left out.

    Args:
        comparison: the outcomes; the method "policy" is among them.

    Returns:
        A table to be printed by any rich console, a terminal's or not.
    """
    raw, comparison = comparison, by_member(comparison)
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        caption=_caption(raw, comparison),
        caption_justify="left",
        caption_style="dim",
    )
    columns = _columns(comparison)
    for index, column in enumerate(columns):
        table.add_column(column.title, justify="right" if index else "left", no_wrap=index > 0)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def _columns(comparison: Comparison) -> list[Column]:
    methods = list(comparison.methods.values())
    policy = comparison.methods[POLICY]
    pairs = [None if method.name == POLICY else paired(method.loss, policy.loss) for method in methods]
    spread = comparison.n_tasks > 1  # one task has no interval to show
    columns = [
        Column("Method", [_named(method) for method in methods]),
        Column("Test loss", interval_cells([mean_interval(method.loss) for method in methods], spread)),
    ]
    if any(method.accuracy is not None for method in methods):
        columns.append(
            Column("Accuracy", interval_cells([_percent(method) for method in methods], spread, decimals=1, unit=" %"))
        )
    styles = [VERDICT_STYLES[verdict(method, policy)] for method in methods]
    columns.append(
        Column("Difference", interval_cells([pair and pair.difference for pair in pairs], spread, "+", styles))
    )
    columns.append(Column("Wins", [_wins(pair) for pair in pairs]))
    if any(method.trials is not None for method in methods):
        columns.append(Column("Trials", [Text(NONE if m.trials is None else str(m.trials)) for m in methods]))
    if any(method.diverged.any() for method in methods):
        columns.append(Column("Diverged", [Text(str(int(method.diverged.sum()))) for method in methods]))
    return columns


def _named(method: MethodOutcome) -> Text:
    name = Text(method.name, "bold")
    return name.append(f"\n{method.description}", "not bold dim") if method.description else name


def _percent(method: MethodOutcome) -> Interval | None:
    return None if method.accuracy is None else mean_interval(100 * method.accuracy)


def _wins(pair: Paired | None) -> Text:
    return Text(NONE if pair is None else share(pair.win_rate))


def _caption(raw: Comparison, comparison: Comparison) -> Text:
    tasks = "1 task" if raw.n_tasks == 1 else f"{raw.n_tasks} tasks"
    unit = comparison.unit
    over = f" from {comparison.n_tasks} {unit}s" if raw.members else ""
    steps = "1 step" if comparison.horizon == 1 else f"{comparison.horizon} steps"
    spread = "±: half of Student's 95 % interval" if comparison.n_tasks > 1 else f"A single {unit} gives no interval"
    lines = [
        f"{tasks} of {comparison.tasks} ({comparison.split}){over}, horizon {steps}. Means over {unit}s. {spread}. "
        f"Difference: the method's test loss minus the policy's on the same {unit}; positive: the policy is better. "
        f"Wins: share of the {unit}s on which the policy's loss is lower."
    ]
    return Text("\n".join([*lines, *(f"Note: {note}" for note in comparison.notes)]))
