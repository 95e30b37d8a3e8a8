"""The report of an evaluation: one page in one file, which opens from disk and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison
from metaopt.evaluation.statistics import Interval, mean_interval, paired
from metaopt.files import write_text
from metaopt.policies.reading import PolicyReading
from metaopt.report import style
from metaopt.report.alternatives import interval_words, policy_words
from metaopt.report.colours import CARD, PAPER, declarations
from metaopt.report.detail_tables import choices_tables, roles_table, tasks_table, tensors_table
from metaopt.report.headline import POLICY, headline, task_words
from metaopt.report.method_tables import account_table, methods_table
from metaopt.report.numbers import compact
from metaopt.report.page_figures import PageFigure, account_figures, comparison_figures, reading_figures
from metaopt.report.search_headline import search_headline
from metaopt.report.tables import PageTable
from metaopt.report.words import reading_in_words
from metaopt.search.account import Account

PAGE_COLOURS = [colour.lower() for colour in (style.INK, style.GREY, style.FAINT, style.BLUE, style.RED)]
"""Those that the style sheet uses whether or not a figure does."""


@dataclass(frozen=True)
class ReportContent:
    """What the report is made of.

    Attributes:
        comparison: the policy and its baselines.
        account: searches on the same tasks, held against the policy; None without any.
        reading: what the policy has learned.
        roles: role of each parameter tensor, such as "first.weight"; may be empty.
        facts: what was run, in the order shown: the command, versions, seeds, split hash, date.
        extra_notes: what a reader must know besides the comparison's own notes.
    """

    comparison: Comparison
    account: Account | None
    reading: PolicyReading
    roles: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    extra_notes: Sequence[str] = ()


def write_report(content: ReportContent, path: str | Path) -> None:
    """Writes `report.html` in one stroke.

    Args:
        content: what it is made of.
        path: the file, replaced if there is one.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    write_text(path, report_html(content))


def report_html(content: ReportContent) -> str:
    """The page as text; the same for the same content.

    Names of tasks, methods and files come from others: all text is escaped, and a Content-Security-Policy lets no
    script run but the page's own, and nothing be loaded.

    Args:
        content: what it is made of.

    Returns:
        HTML with its styles, its script and its figures inside.
    """
    comparison, account = content.comparison, content.account
    if account is not None and not account.methods:
        account = None
    searches = [] if account is None else account_figures(account)
    outcomes, learned = comparison_figures(comparison), reading_figures(content.reading)
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("report.html.j2")).render(
        title=f"metaopt: {task_words(comparison)}",
        policy=f"script-src 'sha256-{digest}'",
        script=script,
        style=_styles([*searches, *outcomes, *learned]),
        headlines=[headline(comparison), *([search_headline(account)] if account else [])],
        interval=interval_sentence(comparison, account),
        comparison=comparison,
        account=account,
        methods=methods_table(comparison, account),
        costs=account_table(account) if account else None,
        searches=searches,
        outcomes=outcomes,
        learned=learned,
        reading=reading_in_words(content.reading, content.roles),
        tensors=[*choices_tables(content.reading), *_strengths_tables(content)],
        tasks=tasks_table(comparison, account),
        facts=dict(content.facts),
        notes=list(dict.fromkeys([*comparison.notes, *content.extra_notes])),
    )


def _strengths_tables(content: ReportContent) -> list[PageTable]:
    tables = (roles_table(content.reading, content.roles), tensors_table(content.reading, content.roles))
    return [table for table in tables if table]


def interval_sentence(comparison: Comparison, account: Account | None) -> str:
    """The policy's loss with its interval, and the difference to the strongest of the others with its own.

    Args:
        comparison: the policy and its baselines.
        account: the searches on the same tasks; None without any.

    Returns:
        One or two sentences. Neither claims anything.
    """
    shown = by_member(comparison)
    policy = shown.methods[POLICY]
    if shown.n_tasks < 2:
        return f"With a single {shown.unit} there is no interval."
    rivals: dict[str, tuple[float, Interval, str]] = {}
    for name, method in shown.methods.items():
        if name != POLICY:
            rivals[name] = (float(mean_interval(method.loss).mean), paired(method.loss, policy.loss).difference, "")
    for name, search in (account.methods if account else {}).items():
        after = f" after {search.trials} trial{'' if search.trials == 1 else 's'}"
        rivals[name] = (search.loss[-1].mean, search.against.difference, after)
    first = f"The policy's mean test loss is {policy_words(comparison)}."
    if not rivals:
        return first
    name, (loss, difference, after) = min(rivals.items(), key=lambda item: item[1][0])
    return (
        f"{first} The lowest of the others is that of {name}{after}, {compact(loss)}: its loss minus the policy's is "
        f"{interval_words(difference, '+')}, paired by {shown.unit}."
    )


def _styles(figures: Sequence[PageFigure]) -> str:
    """The style sheet, with the colours of all figures in both modes before it."""
    colours = sorted({*PAGE_COLOURS, *(colour for figure in figures for colour in figure.drawing.colours)})
    modes = {
        mode: f"color-scheme: {mode}; --paper: {PAPER[mode]}; --card: {CARD[mode]}; {declarations(colours, mode)}"
        for mode in ("light", "dark")
    }
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {modes['dark']} }} }}"
    return f":root {{ {modes['light']} }}\n{dark}\n{_file('report.css')}"


def _file(name: str) -> str:
    return resources.files("metaopt.report").joinpath(name).read_text(encoding="utf-8")
