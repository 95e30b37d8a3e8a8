"""What an evaluation leaves behind: files, pictures, a report, and words on the console."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import cast

from rich.console import Console

from metaopt.commands.reading import reading_on
from metaopt.commands.run_dir import RunFiles
from metaopt.commands.searching import Searched, joined, search_notes, search_record, tell, with_fallback
from metaopt.evaluation.records import Comparison
from metaopt.evaluation.results import method_rows, package_versions, write_results, write_tasks_csv
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy
from metaopt.report.console import comparison_table
from metaopt.report.figures import save_figures
from metaopt.report.headline import headline
from metaopt.report.html import ReportContent, write_report
from metaopt.report.loss_words import loss_in_words
from metaopt.search.account_record import account_rows
from metaopt.tracking.tracker import Rows
from metaopt.types import Split


@dataclass
class Published:
    """What was left behind, for trackers and for the last lines on the console.

    Attributes:
        results: the files in which the results are.
        tables: by name.
        figures: pictures.
        report: the page, the last one where there are several.
    """

    results: list[Path] = field(default_factory=list)
    tables: dict[str, Rows] = field(default_factory=lambda: {"comparison": [], "search": []})
    figures: list[Path] = field(default_factory=list)
    report: Path | None = None


def publish(
    comparisons: Sequence[Comparison],
    searched: Searched | None,
    problem: InnerProblem,
    policy: Policy,
    files: RunFiles,
    console: Console,
    into: Published,
    facts: Mapping[str, str],
) -> None:
    """Writes results.json, tasks.csv, trials.csv, figures and report.html, and prints what they say.

    Of two comparisons the second, by the statistics of the support sets, has files of its own; searches are of the
    first, and so is the report.

    Args:
        comparisons: one or two; none: only the policy is to be shown.
        searched: what was found beside the first; None: nothing was looked for.
        problem: what was trained.
        policy: the policy.
        files: where to write.
        console: where to print.
        into: gets what is written.
        facts: what the report says of the run, besides what it knows of the comparison.
    """
    split = cast(Split, comparisons[0].split) if comparisons else "meta_validation"
    reading = reading_on(problem, policy, split, comparisons[0].seed if comparisons else 0)
    account = None if searched is None else searched.account
    places = [(files.results, files.tasks), (files.inductive_results, files.inductive_tasks)]
    for i, (comparison, (results, tasks)) in enumerate(zip(comparisons, places, strict=False)):
        beside = searched if i == 0 else None
        whole = comparison if beside is None else joined(comparison, beside)
        write_tasks_csv(whole, tasks)
        write_results(whole, results, None if beside is None else search_record(beside))
        into.results.append(results)
        into.tables["comparison"] += method_rows(whole)
        shown = comparison if beside is None else with_fallback(comparison, beside)
        way = f"{comparison.batch_statistics}: " if len(comparisons) > 1 else ""
        console.print()
        console.print(f"{way.capitalize()}{headline(shown)}", style="bold", highlight=False)
        console.print(comparison_table(shown))
        if beside is not None:
            tell(beside, comparison, files, console)
    for sentence in loss_in_words(reading):
        console.print(sentence, highlight=False)
    into.figures += save_figures(comparisons[0] if comparisons else None, reading, files.figures, account)
    if comparisons:
        first = comparisons[0]
        notes = [] if searched is None else search_notes(searched, first)
        shown = first if searched is None else with_fallback(first, searched)
        content = ReportContent(
            shown, account, reading, problem.model.roles, {**facts, **_facts(first, problem)}, notes
        )
        write_report(content, files.report)
        into.report = files.report
    if account is not None:
        into.tables["search"] += account_rows(account)


def _facts(comparison: Comparison, problem: InnerProblem) -> dict[str, str]:
    """What was run, for whoever wants to run it again."""
    return {
        "Command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "Date": datetime.now().astimezone().isoformat(" ", "seconds"),
        "Tasks": f"{comparison.n_tasks} of {comparison.tasks}, {comparison.split}",
        "Split hash": comparison.split_hash,
        "Seed": str(comparison.seed),
        "Model": ", ".join(f"{key} {value}" for key, value in problem.model.spec.items()),
        "Inner loop": f"{comparison.horizon} steps, batch size {problem.batch_size or 'all'}, {problem.dtype}",
        "Versions": ", ".join(f"{package} {version}" for package, version in package_versions().items()),
    }
