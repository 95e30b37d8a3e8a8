"""The page's tables of methods: what each is worth, and what search costs where a policy costs nothing."""

from __future__ import annotations

import numpy as np

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.statistics import Interval, holm, mean_interval, paired, paired_p
from metaopt.report.headline import POLICY, verdict
from metaopt.report.numbers import share
from metaopt.report.search_headline import search_verdict
from metaopt.report.tables import EMPTY, Cell, PageTable, count_cell, interval_cells, name_cell, number_cell, share_cell
from metaopt.search.account import Account

VERDICT_WORDS = {"lower": "policy better", "higher": "policy worse", "undecided": "not distinguishable"}


def methods_table(comparison: Comparison, account: Account | None) -> PageTable:
    """A row per method: the policy, the baselines, and each search after all of its trials.

    Args:
        comparison: the policy and the baselines.
        account: the searches on the same tasks; None without any.

    Returns:
        The table. Columns that would be empty are left out: accuracy in regression, trials without a search, p-values
        of a single rival.
    """
    raw, comparison = comparison, by_member(comparison)
    outcomes, searches = list(comparison.methods.values()), list(account.methods.values()) if account else []
    policy = comparison.methods[POLICY]
    spread = comparison.n_tasks > 1
    pairs = [None if each is policy else paired(each.loss, policy.loss) for each in outcomes]
    pairs += [each.against for each in searches]
    verdicts = [VERDICT_WORDS[verdict(each, policy)] if each is not policy else "" for each in outcomes]
    verdicts += [VERDICT_WORDS[search_verdict(each)] for each in searches]
    keys = {words: key for key, words in VERDICT_WORDS.items()}
    losses = [mean_interval(each.loss) for each in outcomes] + [each.loss[-1] for each in searches]
    columns: dict[str, list[Cell]] = {
        "Method": [name_cell(each.name, each.description) for each in (*outcomes, *searches)],
        "Test loss": interval_cells(losses, spread),
    }
    accuracies = [_percent(each.accuracy) for each in outcomes]
    accuracies += [_scaled(each.accuracy[-1]) if each.accuracy else None for each in searches]
    if any(each is not None for each in accuracies):
        columns["Accuracy"] = interval_cells(accuracies, spread, decimals=1, unit=" %")
    differences = [pair and pair.difference for pair in pairs]
    columns["Difference"] = interval_cells(differences, spread, "+", [keys.get(words, "") for words in verdicts])
    columns["Verdict"] = [Cell(words, words, verdict=keys[words]) if words else EMPTY for words in verdicts]
    columns["Wins"] = [share_cell(pair.win_rate, share(pair.win_rate)) if pair else EMPTY for pair in pairs]
    if len(pairs) > 2 and spread:
        columns["Holm p"] = [_p(each) for each in _corrected(outcomes, policy, account)]
    trials = [each.trials for each in (*outcomes, *searches)]
    if any(each is not None for each in trials):
        columns["Trials"] = [count_cell(each) for each in trials]
    if any(each.diverged.any() for each in outcomes):
        columns["Diverged"] = [count_cell(int(each.diverged.sum())) for each in raw.methods.values()]
        columns["Diverged"] += [EMPTY] * len(searches)
    return _table(
        "methods", f"All methods on the same {comparison.unit}s", columns, _methods_note(comparison.unit, spread)
    )


def _methods_note(unit: str, spread: bool) -> str:
    ends = "Below each mean: its 95 % interval" if spread else f"A single {unit} gives no interval"
    return (
        f"{ends}. Difference: the method's test loss minus the policy's on the same {unit}; positive: the policy is "
        "better. Verdict: of a baseline by that interval, of a search by Holm's p below 0.05 as well. Wins: share of "
        f"the {unit}s on which the policy's loss is lower."
    )


def account_table(account: Account) -> PageTable:
    """A row per search: how many trials it takes to match the policy, what they cost, and the break-even.

    Args:
        account: the searches, held against the policy.

    Returns:
        The table; break-even in seconds only where the seconds of meta-training are known.
    """
    methods = list(account.methods.values())
    columns: dict[str, list[Cell]] = {
        "Search": [name_cell(each.name, each.description) for each in methods],
        "Trials": [count_cell(each.trials) for each in methods],
        "Trials to match": [_match_cell(each.match_on_mean) for each in methods],
        "Never matched": [_share_where(each.match == 0) for each in methods],
        "Matched at once": [_share_where(each.match == 1) for each in methods],
        "Inner steps per task": [count_cell(each.inner_steps) for each in methods],
        "Seconds per task": [number_cell(each.seconds) for each in methods],
        "Break-even, tasks": [_break_even(each.break_even) for each in methods],
    }
    if account.meta_training.seconds is not None:
        columns["Break-even by time"] = [_break_even(each.break_even_seconds) for each in methods]
    spent = f"{account.meta_training.inner_steps:,}".replace(",", "\u202f")
    seconds = account.meta_training.seconds
    time = "" if seconds is None else f" in {seconds:,.0f} seconds".replace(",", "\u202f")
    chosen = "by cross-validation" if account.validation == "kfold" else "on the query set"
    note = (
        f"A search's answer is the best of its trials so far, chosen {chosen}. Trials to match: until the mean test "
        f"loss is no higher than the policy's. Never matched, matched at once: shares of the {account.unit}s. "
        f"Break-even: number of tasks after which meta-training, which spent {spent} inner steps{time}, has cost no "
        f"more than searching on each of them until the match; {EMPTY.text}: never."
    )
    return _table("account", "What search costs until it matches the policy", columns, note)


def match_cell(trials: int) -> Cell:
    """Trials to match on one unit, where 0 is never."""
    return Cell("never", float("inf")) if trials == 0 else Cell(str(trials), trials)


def _table(key: str, caption: str, columns: dict[str, list[Cell]], note: str) -> PageTable:
    return PageTable(key, caption, list(columns), list(zip(*columns.values(), strict=True)), note)


def _match_cell(trials: int | None) -> Cell:
    return match_cell(trials or 0) if trials != 1 else Cell("1 (at once)", 1)


def _share_where(chosen: np.ndarray) -> Cell:
    rate = float(np.mean(chosen))
    return share_cell(rate, share(rate))


def _break_even(tasks: float | None) -> Cell:
    return EMPTY if tasks is None else number_cell(tasks) if tasks < 10 else count_cell(round(tasks))


def _percent(accuracy: np.ndarray | None) -> Interval | None:
    return None if accuracy is None else mean_interval(100 * accuracy)


def _scaled(accuracy: Interval) -> Interval:
    return Interval(*(100 * value for value in accuracy))


def _corrected(outcomes: list[MethodOutcome], policy: MethodOutcome, account: Account | None) -> list[float | None]:
    """Holm's p-values, row by row: the account's, which counts the baselines; without an account, of the baselines."""
    rivals = [each for each in outcomes if each is not policy]
    if account is None:
        values = dict(
            zip((each.name for each in rivals), holm([paired_p(r.loss, policy.loss) for r in rivals]), strict=True)
        )
    else:
        values = {name: test.p_holm for name, test in account.others.items()}
    searches = [each.p_holm for each in account.methods.values()] if account else []
    return [*(values.get(each.name) for each in outcomes), *searches]


def _p(value: float | None) -> Cell:
    if value is None:
        return EMPTY
    return Cell("<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.9995 else "1", value)
