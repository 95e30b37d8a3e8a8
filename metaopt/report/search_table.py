"""The account of the searches as a table for the terminal; it fits into 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from metaopt.evaluation.statistics import Interval
from metaopt.report.cells import NONE, VERDICT_STYLES, Column, interval_cells
from metaopt.report.numbers import compact, share
from metaopt.report.search_headline import search_headline, search_verdict
from metaopt.search.account import Account, MethodAccount

__all__ = ["search_headline", "search_table"]

POLICY = "policy"
SHOWN_TRIALS = (1, 10)
"""Besides all of them."""


def search_table(account: Account) -> Table:
    """One row for the policy and for each search: test loss after 1, 10 and all trials, and what matching takes.

    The difference's interval stands below its mean; the others are in `results.json`. The policy's loss stands in each
    column of losses, because it needs no trial.

    Args:
        account: the searches, held against the policy.

    Returns:
        A table to be printed by any rich console, a terminal's or not.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption=_caption(account),
        caption_justify="left",
        caption_style="dim",
    )
    columns = _columns(account)
    for index, column in enumerate(columns):
        table.add_column(column.title, justify="right" if index else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def shown_trials(account: Account) -> list[int]:
    """The numbers of trials that have a column of their own: 1, 10 and all, as far as there are so many."""
    most = max((method.trials for method in account.methods.values()), default=0)
    return [*(trials for trials in SHOWN_TRIALS if trials < most), *([most] if most else [])]


def _columns(account: Account) -> list[Column]:
    methods = list(account.methods.values())
    columns = [Column("Method", [Text(name, "bold") for name in (POLICY, *account.methods)])]
    for trials in shown_trials(account):
        losses = [account.policy, *(_after(method, trials) for method in methods)]
        columns.append(Column(_title(trials), interval_cells(losses, spread=False)))
    styles = ["", *(VERDICT_STYLES[search_verdict(method)] for method in methods)]
    differences = [None, *(method.against.difference for method in methods)]
    columns.append(Column("Differ-\nence", interval_cells(differences, account.n_units > 1, "+", styles)))
    columns.append(Column("Wins", _texts([share(method.against.win_rate) for method in methods])))
    columns.append(Column("p", _texts([_p(method.p_holm) for method in methods])))
    columns.append(Column("Match\non mean", _texts([_match(method) for method in methods])))
    columns.append(Column("Never", _texts([share(float((method.match == 0).mean())) for method in methods])))
    columns.append(Column("Break-\neven", _texts([_tasks(method.break_even) for method in methods])))
    return columns


def _title(trials: int) -> str:
    return "1\ntrial" if trials == 1 else f"{trials}\ntrials"


def _after(method: MethodAccount, trials: int) -> Interval | None:
    return method.loss[trials - 1] if trials <= method.trials else None


def _texts(cells: Sequence[str]) -> list[Text]:
    return [Text(cell) for cell in (NONE, *cells)]


def _p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0") if value < 0.9995 else "1"


def _match(method: MethodAccount) -> str:
    if method.match_on_mean is None:
        return "never"
    return "at once" if method.match_on_mean == 1 else str(method.match_on_mean)


def _tasks(count: float | None) -> str:
    return NONE if count is None else compact(count) if count < 10 or count >= 1e5 else f"{count:.0f}"


def _caption(account: Account) -> Text:
    unit = account.unit
    chosen = "by cross-validation" if account.validation == "kfold" else "on the query set"
    spread = "±: half of Student's 95 % interval" if account.n_units > 1 else f"A single {unit} gives no interval"
    tests = len(account.methods) + len(account.others)
    named = [f"{method.name}: {method.description}" for method in account.methods.values() if method.description]
    return Text(
        f"Test loss of the best of 1, 2, … trials, chosen {chosen}. Means over {account.n_units} {unit}"
        f"{'' if account.n_units == 1 else 's'}. {spread}. "
        f"Difference: the search's test loss after all of its trials minus the policy's on the same {unit}; positive: "
        f"the policy is better. Wins: share of the {unit}s on which the policy's loss is lower. "
        f"p: of a paired t-test, by Holm's correction for {tests} method{'' if tests == 1 else 's'}. "
        "Match on mean: trials until the mean test loss is no higher than the policy's. "
        f"Never: share of the {unit}s on which no number of trials got there. "
        "Break-even: tasks after which meta-training has cost no more inner steps than searching until the match; "
        f"{NONE}: never." + "".join(f"\n{line}" for line in named)
    )
