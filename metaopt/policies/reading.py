"""A policy's learned quantities as plain arrays, for people, figures and trackers to look at."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from metaopt.policies.policy import Policy
from metaopt.policies.sharpened import choices_of


@dataclass(frozen=True)
class PolicyReading:
    """What a policy has learned, in natural units.

    Attributes:
        strengths: by quantity ("lr", "l2", "pull", "init_std", "dropout"), by parameter tensor in the model's order: an
            array of the parameter's shape (granularity element) or of shape () (tensor or global). Dropout rates are by
            the weight of the layer that they go into. Absent: switched off.
        schedule: factor per step, [horizon], by parameter tensor or role; the single key "" when one serves all.
            Empty: off.
        momentum: μ, or None when there is none.
        input_shape: shape of one input; (channels, height, width) lays out first-layer strengths as an image.
        learned: names of the quantities that are learned (the others are fixed).
        multipliers: what the policy's rule itself multiplies strengths with on some tasks, by quantity and role (or
            tensor, where the model has no roles), [tasks, horizon]. Empty: the strengths do not depend on the task, or
            nothing was trained.
        matrices: what gradients are multiplied with, by parameter tensor: [size, size] for each of its modes. Empty: no
            preconditioner.
        numbers: strengths that there is one of ("label_smoothing", "input_noise"). Absent: switched off.
        mixed: by the kind of thing that is chosen ("update direction", "activation"), weights by name: of a mixture,
            or of that from which the policy was sharpened into one choice. Empty: neither.
        chosen: whether it was sharpened.
    """

    strengths: dict[str, dict[str, np.ndarray]]
    schedule: dict[str, np.ndarray]
    momentum: float | None
    input_shape: tuple[int, ...]
    learned: frozenset[str] = field(default_factory=frozenset)
    matrices: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    multipliers: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    mixed: dict[str, dict[str, float]] = field(default_factory=dict)
    chosen: bool = False


def read_policy(policy: Policy, input_shape: tuple[int, ...]) -> PolicyReading:
    """The policy's quantities in natural units.

    The standard deviation of a scaled initialisation is given relative to torch's own.
    """
    with torch.no_grad():
        strengths: dict[str, dict[str, np.ndarray]] = {}
        for quantity in ("lr", "l2", "pull", "init_std", "dropout"):
            values = policy.strength(quantity)
            if values is not None:
                strengths[quantity] = {name: np.asarray(_plain(value)) for name, value in values.items()}
        schedule = policy.schedule()
        mu = policy.momentum()
        match policy.settings.schedule:
            case "step" if schedule is not None:
                factors = {"": _plain(next(iter(schedule.values())))}
            case "step_role" if schedule is not None:
                factors = {policy.roles[name]: _plain(value) for name, value in schedule.items()}
            case "step_tensor" if schedule is not None:
                factors = {name: _plain(value) for name, value in schedule.items()}
            case _:
                factors = {}
        smoothing, _, noise = policy.loss_strengths()
        found = {"label_smoothing": smoothing, "input_noise": noise}
        numbers = {name: float(value) for name, value in found.items() if value is not None}
        choices = choices_of(policy)
        mixed = {choice.what: dict(choice.weights) for choice in choices} or policy.mixed
        matrices = {name: tuple(map(_plain, own)) for name, own in policy.matrices().items()}
    momentum = None if mu is None else float(mu)
    return PolicyReading(
        strengths,
        factors,
        momentum,
        input_shape,
        policy.settings.learned(),
        matrices,
        numbers=numbers,
        mixed=mixed,
        chosen=bool(mixed) and not choices,
    )


def _plain(value: Tensor | float) -> np.ndarray:
    return value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else np.asarray(value)
