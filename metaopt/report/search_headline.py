"""One sentence that says how the policy stands beside search, and no more than was found."""

from __future__ import annotations

from metaopt.report.headline import listed
from metaopt.report.numbers import distinct
from metaopt.search.account import Account, MethodAccount

ALPHA = 0.05


def search_verdict(method: MethodAccount) -> str:
    """The policy's loss against a search's after all trials: "lower", "higher" or "undecided".

    Decided only where the p-value that Holm corrected for all methods is below 0.05 and the interval excludes zero; so
    the chance of one false claim among all methods is below 5 %.
    """
    difference = method.against.difference
    if method.p_holm >= ALPHA or difference.low <= 0 <= difference.high:
        return "undecided"
    return "lower" if difference.low > 0 else "higher"


def search_headline(account: Account) -> str:
    """The account in one plain sentence: lower, higher or undecided, search by search, after all trials.

    Args:
        account: the searches, held against the policy.

    Returns:
        A sentence that claims a difference only where `search_verdict` does.
    """
    methods = list(account.methods.values())
    shown = distinct([account.policy.mean, *(method.loss[-1].mean for method in methods)])
    trials = {method.trials for method in methods}
    groups: dict[str, list[str]] = {"lower": [], "higher": [], "undecided": []}
    for method, loss in zip(methods, shown[1:], strict=True):
        own = "" if len(trials) == 1 else f" after {_trials(method.trials)}"
        groups[search_verdict(method)].append(f"{method.name} ({loss}{own})")
    units = f"one {account.unit}" if account.n_units == 1 else f"{account.n_units} {account.unit}s"
    subject = f"On {units} the policy's test loss without a trial is {shown[0]}"
    if not methods:
        return f"{subject}; there is no search to compare it with."
    after = f" after {_trials(trials.pop())} per task" if len(trials) == 1 else ""
    return f"{subject}, {_claims(groups, account.n_units, after)}."


def _claims(groups: dict[str, list[str]], n_units: int, after: str) -> str:
    undecided = groups["undecided"]
    if n_units < 2:
        return f"beside {listed(undecided)}{after}; one alone cannot decide between them"
    decided = [f"{verdict} than {listed(groups[verdict])}" for verdict in ("lower", "higher") if groups[verdict]]
    doubt = [f"not distinguishable from {listed(undecided)}"] if undecided else []
    claims = ", and ".join([*([" but ".join(decided)] if decided else []), *doubt])
    return f"{claims}{after} (paired tests at 5 %, Holm's correction)"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"
