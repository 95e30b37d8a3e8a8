"""From the mixtures that were meta-trained to the choices that are saved, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from metaopt.outer.loop import Validation, before_and_after, final_losses
from metaopt.outer.metrics import Record
from metaopt.outer.mixture import Mixture, parts_of
from metaopt.outer.problem import InnerProblem
from metaopt.policies.policy import Policy
from metaopt.policies.rule import Choice
from metaopt.policies.sharpened import sharpened

FARTHEST = 6
"""Learning rates are changed by so many octaves at most."""

Rebuild: TypeAlias = Callable[[InnerProblem, Mapping[str, str]], InnerProblem]
"""(a problem, the choices by kind) -> the problem whose model has these choices."""


@dataclass(frozen=True)
class Sharpening:
    """A policy whose mixtures have been sharpened.

    Attributes:
        problem: what was trained, with a model of the choices.
        policy: the policy of the choices.
        choices: what was chosen.
        factor: what its learning rates were multiplied with.
        loss: meta-validation loss with the choices.
        loss_before: the same with the mixtures.
    """

    problem: InnerProblem | Mixture
    policy: Policy
    choices: Sequence[Choice]
    factor: float
    loss: float
    loss_before: float

    def describe(self) -> str:
        """What a reader of the result must know, in a sentence."""
        mixtures = []
        for what, name, weights in self.choices:
            ranked = sorted(weights.items(), key=lambda pair: -pair[1])
            shares = ", ".join(f"{other} {100 * weight:.1f} %" for other, weight in ranked)
            mixtures.append(f"the learned mixture of {what}s ({shares}) is sharpened into {name}")
        return (
            f"{' and '.join(mixtures)}: meta-validation loss {self.loss_before:.4g} with the mixture, {self.loss:.4g} "
            "with the one choice, which is what is saved and evaluated"
        )

    def record(self, iteration: int) -> Record:
        """A row of metrics.jsonl."""
        return {
            "kind": "sharpening",
            "iteration": iteration,
            "choices": {choice.what: choice.name for choice in self.choices},
            "weights": {choice.what: dict(choice.weights) for choice in self.choices},
            "factor": self.factor,
            "loss": self.loss,
            "loss_before": self.loss_before,
        }


def sharpen(
    problem: InnerProblem | Mixture, policy: Policy, validation: Validation | Sequence[Validation], rebuild: Rebuild
) -> Sharpening | None:
    """The policy of the choices with the largest weights, at the rates with the lowest meta-validation loss.

    In a mixture of directions the chosen step was a part of a longer one, or of one in which others pulled elsewhere:
    the rates are multiplied with one factor, which is found by a search along a line, in octaves as far as the loss
    falls and then by half an octave. It costs as much as six meta-validations or a few more.

    Args:
        problem: what is trained.
        policy: left as it is.
        validation: of each part.
        rebuild: makes the problem of the choices.

    Returns:
        What came out; None where the policy mixes nothing.
    """
    first = sharpened(policy)
    if first is None:
        return None
    fixed = [validation] if isinstance(validation, Validation) else validation
    names = {choice.what: choice.name for choice in first.choices}
    chosen = _rebuilt(problem, names, rebuild)

    def loss_of(candidate: Policy, of: InnerProblem | Mixture) -> float:
        pairs = zip(parts_of(of, candidate), fixed, strict=True)
        found = [final_losses(before_and_after(part.problem, part.policy, *own)) for part, own in pairs]
        return float(torch.cat(found).mean())

    def loss_at(octave: float) -> float:
        candidate = sharpened(policy, 2.0**octave)
        assert candidate is not None, "it was one above"
        return loss_of(candidate.policy, chosen)

    best, loss = _lowest(loss_at) if first.has_rate else (0.0, loss_at(0.0))
    last = sharpened(policy, 2.0**best)
    assert last is not None, "it was one above"
    return Sharpening(chosen, last.policy, last.choices, 2.0**best, loss, loss_of(policy, problem))


def _rebuilt(problem: InnerProblem | Mixture, names: Mapping[str, str], rebuild: Rebuild) -> InnerProblem | Mixture:
    if isinstance(problem, InnerProblem):
        return rebuild(problem, names)
    return replace(problem, parts={key: rebuild(part, names) for key, part in problem.parts.items()})


def _lowest(loss_at: Callable[[float], float]) -> tuple[float, float]:
    """Where along a line a loss is lowest, to half a unit, beginning at 0; and that loss."""
    losses = {at: loss_at(at) for at in (0.0, -1.0, 1.0)}
    middle = min(losses, key=losses.__getitem__)
    while middle != 0 and abs(middle) < FARTHEST:
        beyond = middle + math.copysign(1, middle)
        losses[beyond] = loss_at(beyond)
        if losses[beyond] >= losses[middle]:
            break
        middle = beyond
    losses |= {at: loss_at(at) for at in (middle - 0.5, middle + 0.5)}
    best = min(losses, key=losses.__getitem__)
    return best, losses[best]
