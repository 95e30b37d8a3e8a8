"""Several inner problems in one meta-training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from metaopt.errors import ConfigError
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy


@dataclass(frozen=True)
class Mixture:
    """Inner problems of several families, of which every meta-batch has its share of each.

    Attributes:
        parts: by name.
        weights: how many tasks of a meta-batch a part has, relative to the others; > 0.
    """

    parts: Mapping[str, InnerProblem]
    weights: Mapping[str, float]

    def counts(self, n: int) -> dict[str, int]:
        """How `n` tasks are divided: in proportion to the weights up to rounding, with one for each part at least.

        Raises:
            ConfigError: there are more parts than tasks.
        """
        if n < len(self.parts):
            raise ConfigError(f"{n} tasks cannot be divided among the {len(self.parts)} parts of a mixture; take more")
        total = sum(self.weights.values())
        exact = {name: n * self.weights[name] / total for name in self.parts}
        counts = {name: max(1, int(value)) for name, value in exact.items()}
        while sum(counts.values()) != n:
            step = 1 if sum(counts.values()) < n else -1
            able = [name for name in counts if counts[name] + step > 0]
            furthest = max(able, key=lambda name: step * (exact[name] - counts[name]))
            counts[furthest] += step
        return counts


class Part(NamedTuple):
    """An inner problem as the outer loop sees it.

    Attributes:
        name: of the part; "" where there is only one.
        problem: the problem.
        policy: the policy for its model, which shares its parameters with those of the other parts.
    """

    name: str
    problem: InnerProblem
    policy: Policy

    def lasting(self, horizon: int) -> Part:
        """The same part with trainings of another length, of which the policy knows."""
        if horizon == self.problem.horizon:
            return self
        return Part(self.name, replace(self.problem, horizon=horizon), self.policy.lasting(horizon))


def parts_of(problem: InnerProblem | Mixture, policy: Policy) -> list[Part]:
    """The parts of a mixture; a single problem is its own only part."""
    if isinstance(problem, InnerProblem):
        return [Part("", problem, policy)]
    return [Part(name, part, policy.on(part.model)) for name, part in problem.parts.items()]


def counts_of(problem: InnerProblem | Mixture, n: int) -> list[int]:
    """How many of `n` tasks each part has, in the order of `parts_of`."""
    return [n] if isinstance(problem, InnerProblem) else list(problem.counts(n).values())
