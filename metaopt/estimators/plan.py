"""How to train on a table of any number of rows with a policy that was learned on tables of some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from metaopt.policies.file import PolicyCard

MOST_AT_ONCE = 1024
"""Rows of a step where a policy was meta-trained on all rows of its tasks at once."""
EPOCHS = 20
"""How often training goes through a large table."""
LONGER = 3
"""Training may take so many times the steps of the longest that the policy was meta-trained for."""


class Plan(NamedTuple):
    """How to train.

    Attributes:
        steps: number of training steps.
        batch_size: rows in the minibatch of a step.
        l2: what L2 strengths are multiplied with.
    """

    steps: int
    batch_size: int
    l2: float


def plan(n_rows: int, card: PolicyCard) -> Plan:
    """How to train on a table, where the user does not say.

    Training takes as many steps as the longest that the policy was meta-trained for. On large tables it takes more,
    enough to go through all rows 20 times, up to three times as many; not where a schedule was learned, which ends.

    The loss is a mean over rows, but what L2 guards against is that there are few: a penalty of the same weight against
    each row has a strength in proportion to 1/rows. So where there are more rows than policies were learned on, L2
    strengths are multiplied with the ratio.

    Args:
        n_rows: rows of the table.
        card: of the policy.
    """
    inner = _settings(card.config.get("inner"))
    batch_size = _count(inner.get("batch_size")) or min(n_rows, MOST_AT_ONCE)
    horizons = inner.get("horizons")
    counts = [_count(steps) or 0 for steps in horizons] if isinstance(horizons, list) else []
    steps = longest = max([card.horizon, *counts])
    if card.policy.schedule == "off":
        steps = max(longest, min(EPOCHS * n_rows // batch_size, LONGER * longest))
    learned_on = _support(_settings(card.config.get("tasks")))
    return Plan(steps, batch_size, 1.0 if learned_on is None else min(1.0, learned_on / n_rows))


def _support(tasks: Mapping[str, Any]) -> int | None:
    """Training rows of the tasks that a policy was learned on; of several families, the fewest."""
    parts = _settings(tasks.get("parts")).values() or [tasks]
    counts = [_count(_settings(part).get("support")) for part in parts]
    return min((count for count in counts if count is not None), default=None)


def _settings(value: Any) -> Mapping[str, Any]:
    """What a file says, if it is of the right kind."""
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
