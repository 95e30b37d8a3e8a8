"""Search on held-out tasks, beside the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console

from metaopt.commands.progress import progress_bar
from metaopt.commands.run_dir import RunFiles
from metaopt.config.build import generator
from metaopt.config.build_search import build_search
from metaopt.config.search import SearchConfig
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.outer.loop import sample_raw
from metaopt.outer.problem import InnerProblem
from metaopt.policies.baselines import RuleSettings
from metaopt.policies.policy import Policy
from metaopt.report.search_headline import search_headline
from metaopt.report.search_table import search_table
from metaopt.search.account import Account, account
from metaopt.search.account_record import account_record
from metaopt.search.mapping import Closest, closest_setting
from metaopt.search.records import Cost, SearchOutcome
from metaopt.search.run import search
from metaopt.search.safety import Safety, better_of_two
from metaopt.search.trials_csv import write_trials_csv
from metaopt.types import CPU, Split

POLICY = "policy"


@dataclass(frozen=True)
class Searched:
    """What was found beside a comparison's methods, on its tasks.

    Attributes:
        outcomes: of the searches.
        account: these held against the policy; None where nothing was searched.
        mapping: what became of each dimension of the space in a warm start.
        closest: the policy in the words of a conventional optimizer.
        rival: the baseline that `safety` is about.
        safety: where that one validates better than the policy; None where it could not be compared.
        fallback: whether the better of both is a method of its own.
    """

    outcomes: list[SearchOutcome]
    account: Account | None
    mapping: Mapping[str, str]
    closest: Closest | None
    rival: str
    safety: Safety | None
    fallback: bool


def search_beside(
    config: SearchConfig,
    problem: InnerProblem,
    policy: Policy,
    comparison: Comparison,
    console: Console,
    *,
    dtype: str,
    fresh: bool,
    cost: Cost,
    fallback: bool = False,
) -> Searched:
    """Searches on each task of a comparison, behind a progress bar, and looks for negative transfer.

    Args:
        config: what to search.
        problem: what is trained.
        policy: the comparison's.
        comparison: of the policy and baselines, on tasks of the problem's family.
        console: shows the progress.
        dtype: of the model's own passes, as in `InnerConfig`.
        fresh: whether the comparison's baselines start from torch's initialisation.
        cost: of meta-training.
        fallback: whether the better of policy and conventional setting is to be a method of its own.
    """
    split: Split = comparison.split  # type: ignore[assignment]
    tasks, draws = sample_raw(problem, split, comparison.n_tasks, generator(comparison.seed, "meta_test"))
    n_support = tasks.support.x.shape[1]
    built = build_search(config, problem, policy, dtype, fresh, comparison.seed, n_support)
    rival = next((name for name in ("tuned", "mapped") if name in comparison.methods), "")
    safety = None
    if rival and policy.settings.optimizer == "metaopt":
        settings = RuleSettings(**comparison.methods[rival].settings)
        safety = better_of_two(built.setting, settings, tasks, draws)
    outcomes: list[SearchOutcome] = []
    found = None
    if built.plan.methods:
        workers = config.processes if problem.device == CPU else 1
        total = comparison.n_tasks * len(built.plan.methods) * config.trials
        with progress_bar(console, "trials on held-out tasks", total) as advance:
            outcomes = search(built.setting, built.plan, tasks, draws, workers, advance)
        found = account(
            comparison.methods[POLICY],
            outcomes,
            cost,
            others=[method for name, method in comparison.methods.items() if name != POLICY],
            members=comparison.members,
            unit=comparison.unit,
            validation=config.validation,
        )
    closest = closest_setting(policy) if "mapped" in comparison.methods else None
    return Searched(outcomes, found, built.mapping, closest, rival, safety, fallback)


def with_fallback(comparison: Comparison, searched: Searched) -> Comparison:
    """The comparison with the fallback as a further method, where it was asked for."""
    safety = searched.safety
    if not searched.fallback or safety is None:
        return comparison
    method = MethodOutcome(
        name="fallback",
        description=f"the better of policy and {searched.rival} by validation loss",
        loss=safety.loss,
        accuracy=safety.accuracy,
        curve=np.full((comparison.n_tasks, len(comparison.curve_steps)), np.nan),
        diverged=safety.diverged,
        seconds=safety.seconds,
        inner_steps=safety.inner_steps,
        trials=2,
    )
    return replace(comparison, methods=comparison.methods | {method.name: method})


def joined(comparison: Comparison, searched: Searched) -> Comparison:
    """The comparison with all that was found beside it as further methods."""
    methods = dict(with_fallback(comparison, searched).methods)
    unknown = np.full((comparison.n_tasks, len(comparison.curve_steps)), np.nan)
    for found in searched.outcomes:
        answers = found.chosen[:, -1:]
        methods[found.name] = MethodOutcome(
            name=found.name,
            description=f"{found.description}, {found.trials} trials on each task",
            loss=found.loss[:, -1],
            accuracy=None if found.accuracy is None else found.accuracy[:, -1],
            curve=unknown,
            diverged=np.take_along_axis(found.diverged, answers, 1)[:, 0],
            seconds=found.seconds,
            inner_steps=found.inner_steps,
            trials=found.trials,
        )
    return replace(comparison, methods=methods, notes=(*comparison.notes, *search_notes(searched, comparison)))


def search_notes(searched: Searched, comparison: Comparison) -> list[str]:
    """What a reader must know of searches, mapping and negative transfer, a sentence each."""
    notes = []
    if searched.safety is not None:
        count = int(searched.safety.worse.sum())
        notes.append(
            f"negative transfer: by validation loss the policy is worse than {searched.rival} on {count} of "
            f"{comparison.n_tasks} tasks"
        )
    if searched.closest is not None:
        lost = "; ".join(searched.closest.lost) or "nothing"
        notes.append(f"mapped is {searched.closest.settings.describe()}, which leaves out: {lost}")
    if searched.mapping:
        words = ", ".join(f"{name}: {became}" for name, became in searched.mapping.items())
        notes.append(f"searches named _warm start from the policy ({words})")
    return notes


def search_record(searched: Searched) -> dict[str, Any]:
    """What `results.json` says of it under `search`."""
    record: dict[str, Any] = {} if searched.account is None else account_record(searched.account)
    record["mapping"] = dict(searched.mapping)
    if searched.closest is not None:
        closest = searched.closest
        record["closest"] = {"settings": closest.settings.to_json(), "lost": list(closest.lost)}
    if searched.safety is not None:
        worse = searched.safety.worse
        record["negative_transfer"] = {
            "against": searched.rival,
            "share": float(worse.mean()),
            "tasks": np.flatnonzero(worse).tolist(),
        }
    return record


def tell(searched: Searched, comparison: Comparison, files: RunFiles, console: Console) -> None:
    """Writes trials.csv, and prints the account and the notes."""
    if searched.account is not None:
        write_trials_csv(searched.outcomes, files.trials, comparison.members)
        console.print()
        console.print(search_headline(searched.account), style="bold", highlight=False)
        console.print(search_table(searched.account))
    for note in search_notes(searched, comparison):
        console.print(f"{note[0].upper()}{note[1:]}.", highlight=False)
