"""The settings that the search behind `tuned` chooses from."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from optuna.trial import Trial

from metaopt.policies.baselines import RuleSettings

Optimizer: TypeAlias = Literal["sgd", "adam"]

DEFAULTS = (RuleSettings("sgd", lr=0.1), RuleSettings("adam", lr=1e-3))
"""What people type when they do not search; every search tries these first."""

LR_RANGE: dict[Optimizer, tuple[float, float]] = {"sgd": (1e-4, 3.0), "adam": (1e-5, 1.0)}
L2_RANGE = (1e-7, 1e-1)
L2_OFF_BELOW = 1e-6
"""Weaker regularisation does nothing within a few hundred steps, and stands for none."""
MOMENTUM_RANGE = (0.0, 0.99)


def suggest(trial: Trial) -> RuleSettings:
    """One point of the space; learning rate and strength of regularisation are searched on a log scale.

    Args:
        trial: Optuna's trial, which records the choices.

    Returns:
        The settings; L2 below 1e-6 is switched off.
    """
    optimizer: Optimizer = "sgd" if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd" else "adam"
    # Each optimizer has a learning rate of its own: what is good for one says nothing of the other.
    lr = trial.suggest_float(f"{optimizer}_lr", *LR_RANGE[optimizer], log=True)
    l2 = trial.suggest_float("l2", *L2_RANGE, log=True)
    momentum = trial.suggest_float("momentum", *MOMENTUM_RANGE) if optimizer == "sgd" else 0.0
    return RuleSettings(optimizer, lr, l2 if l2 >= L2_OFF_BELOW else 0.0, momentum)


def choices(settings: RuleSettings) -> dict[str, Any]:
    """The choices by which `suggest` arrives at `settings`; its inverse, for settings within the space.

    Args:
        settings: a point of the space.

    Returns:
        Optuna's parameters by name.
    """
    chosen: dict[str, Any] = {
        "optimizer": settings.optimizer,
        f"{settings.optimizer}_lr": settings.lr,
        "l2": max(settings.l2, L2_RANGE[0]),
    }
    if settings.optimizer == "sgd":
        chosen["momentum"] = settings.momentum
    return chosen
