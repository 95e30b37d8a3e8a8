"""One sentence that says what a comparison found, and no more than it found."""

from __future__ import annotations

from collections.abc import Sequence

from metaopt.evaluation.members import by_member
from metaopt.evaluation.records import Comparison, MethodOutcome
from metaopt.evaluation.statistics import paired
from metaopt.report.numbers import distinct

POLICY = "policy"
SPLIT_WORDS = {"meta_train": "meta-train", "meta_validation": "meta-validation"}


def verdict(method: MethodOutcome, policy: MethodOutcome) -> str:
    """The policy's loss against the method's: "lower", "higher", or "undecided" where the interval includes zero."""
    if len(policy.loss) < 2:  # one task has no spread, and so no interval
        return "undecided"
    difference = paired(method.loss, policy.loss).difference
    if difference.low > 0:
        return "lower"
    return "higher" if difference.high < 0 else "undecided"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def headline(comparison: Comparison) -> str:
    """The comparison in one plain sentence: lower, higher or undecided, baseline by baseline.

    Args:
        comparison: the outcomes; the method "policy" is among them.

    Returns:
        A sentence that claims a difference only where the paired 95 % interval excludes zero.
    """
    comparison = by_member(comparison)
    policy = comparison.methods[POLICY]
    baselines = [method for name, method in comparison.methods.items() if name != POLICY]
    shown = distinct([float(method.loss.mean()) for method in (policy, *baselines)])
    groups: dict[str, list[str]] = {"lower": [], "higher": [], "undecided": []}
    for method, loss in zip(baselines, shown[1:], strict=True):
        groups[verdict(method, policy)].append(f"{method.name} ({loss})")
    subject = f"On {task_words(comparison)} the policy's test loss is {shown[0]}{_diverged(policy)}"
    return f"{subject}{_claims(groups, comparison.n_tasks)}."


def task_words(comparison: Comparison) -> str:
    """Such as "200 held-out digits tasks" or "20 held-out tables of tabular"; held out is the meta-test split only."""
    comparison = by_member(comparison)
    one, unit = comparison.n_tasks == 1, comparison.unit
    count, noun = ("one", unit) if one else (str(comparison.n_tasks), f"{unit}s")
    adjective = "held-out" if comparison.split == "meta_test" else SPLIT_WORDS.get(comparison.split, comparison.split)
    if unit != "task":
        return f"{count} {adjective} {noun} of {comparison.tasks}"
    return f"{count} {adjective} {comparison.tasks} {noun}"


def _diverged(policy: MethodOutcome) -> str:
    count = int(policy.diverged.sum())
    return f" (it diverged on {count})" if count else ""


def _claims(groups: dict[str, list[str]], n_tasks: int) -> str:
    decided = [f"{verdict} than {listed(groups[verdict])}" for verdict in ("lower", "higher") if groups[verdict]]
    undecided = groups["undecided"]
    if not decided and not undecided:
        return "; there is no baseline to compare it with"
    if n_tasks < 2:
        return f", beside {listed(undecided)}; a single task cannot decide between them"
    if not undecided:
        count = len(groups["lower"]) + len(groups["higher"])
        which = "the" if count == 1 else "both" if count == 2 else "every"
        noun, verb = ("intervals", "exclude") if count == 2 else ("interval", "excludes")
        return f", {' but '.join(decided)}; {which} paired 95 % {noun} {verb} zero"
    noun, verb = ("interval", "includes") if len(undecided) == 1 else ("intervals", "include")
    doubt = f"not distinguishable from {listed(undecided)}, where the paired 95 % {noun} {verb} zero"
    return f", {' but '.join(decided)}, and {doubt}" if decided else f", {doubt}"
