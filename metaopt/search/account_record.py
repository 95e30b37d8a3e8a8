"""The account as `results.json` holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaopt.evaluation.statistics import Interval
from metaopt.search.account import Account, MethodAccount


def account_record(account: Account) -> dict[str, Any]:
    """The account in plain numbers, strings, lists and dictionaries, all numbers finite.

    Curves have an entry for every number of trials, from 1. Trials to match are counted from 1; null stands for never.

    Args:
        account: the searches, held against the policy.

    Returns:
        The record, with its keys in the order in which people read them.
    """
    return {
        "unit": account.unit,
        "n_units": account.n_units,
        "validation": account.validation,
        "policy": {
            "loss": _interval(account.policy),
            "accuracy": None if account.policy_accuracy is None else _interval(account.policy_accuracy),
        },
        "meta_training": {
            "inner_steps": int(account.meta_training.inner_steps),
            "seconds": None if account.meta_training.seconds is None else float(account.meta_training.seconds),
        },
        "methods": {name: _method(method) for name, method in account.methods.items()},
        "others": {name: {"p": float(test.p), "p_holm": float(test.p_holm)} for name, test in account.others.items()},
    }


def account_rows(account: Account) -> list[dict[str, Any]]:
    """The account as a flat table: a row per search, after all of its trials; for trackers."""
    rows = []
    for name, record in account_record(account)["methods"].items():
        against, match = record["vs_policy"], record["trials_to_match"]
        rows.append(
            {
                "method": name,
                "trials": record["trials"],
                "loss": record["loss"]["mean"][-1],
                "difference": against["mean_difference"],
                "difference_low": against["ci95"][0],
                "difference_high": against["ci95"][1],
                "win_rate": against["win_rate"],
                "p_holm": against["p_holm"],
                "match_on_mean": match["on_mean"],
                "share_never": match["share_never"],
                "inner_steps_per_task": record["inner_steps_per_task"],
                "seconds_per_task": record["seconds_per_task"],
                "break_even_tasks": record["break_even_tasks"]["inner_steps"],
            }
        )
    return rows


def match_quartiles(match: np.ndarray) -> list[int | None]:
    """The trials after which a quarter, half and three quarters of the units match the policy.

    Args:
        match: trials by unit, 0 where no number was enough, int [units].

    Returns:
        Three numbers of trials that occur in `match`; None where so many units never match.
    """
    ordered = [*sorted(int(trials) for trials in match if trials), *[None] * int((match == 0).sum())]
    return [ordered[math.ceil(share * len(ordered)) - 1] for share in (0.25, 0.5, 0.75)]


def _method(method: MethodAccount) -> dict[str, Any]:
    return {
        "description": method.description,
        "trials": int(method.trials),
        "loss": _curve(method.loss),
        "accuracy": None if method.accuracy is None else _curve(method.accuracy),
        "vs_policy": {
            "mean_difference": float(method.against.difference.mean),
            "ci95": [float(method.against.difference.low), float(method.against.difference.high)],
            "win_rate": float(method.against.win_rate),
            "p": float(method.p),
            "p_holm": float(method.p_holm),
        },
        "trials_to_match": {
            "on_mean": method.match_on_mean,
            "share_never": float(np.mean(method.match == 0)),
            "share_at_once": float(np.mean(method.match == 1)),
            "quartiles": match_quartiles(method.match),
            "per_unit": [int(trials) or None for trials in method.match],
        },
        "inner_steps_per_task": float(method.inner_steps),
        "seconds_per_task": float(method.seconds),
        "break_even_tasks": {"inner_steps": method.break_even, "seconds": method.break_even_seconds},
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"mean": float(interval.mean), "ci95": [float(interval.low), float(interval.high)]}


def _curve(intervals: Sequence[Interval]) -> dict[str, list[float]]:
    return {end: [float(getattr(interval, end)) for interval in intervals] for end in Interval._fields}
