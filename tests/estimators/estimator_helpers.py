"""Policies that the estimators can train with, made in a moment."""

from pathlib import Path

import torch

from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, save_policy
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Kind, TaskSpec

TASK = TaskSpec(Kind.classification, (7,), 4)


def learned(value, granularity="global"):
    return StrengthSettings("learned", value, granularity)


ADAM = PolicySettings(
    "adam",
    lr=learned(0.03),
    l2=learned(0.01),
    momentum=MomentumSettings("learned"),
    preconditioner="second_moment",
    decoupled=True,
)
ADAPTIVE = PolicySettings(
    "adaptive",
    lr=learned(0.02),
    l2=learned(0.01),
    momentum=MomentumSettings("learned"),
    init=InitSettings("scaled", "role"),
    preconditioner="second_moment",
    rule="adaptive",
    order="progressive",
)
NOISY = PolicySettings(
    "noisy",
    lr=learned(0.1, "role"),
    schedule="step_role",
    label_smoothing=learned(0.1),
    dropout=learned(0.1),
    input_noise=learned(0.1),
)
TORCHS = PolicySettings("torchs", lr=learned(0.02), momentum=MomentumSettings("off"), optimizer="Adam")
BY_ELEMENT = PolicySettings("by_element", lr=learned(0.1, "element"))
INITIALISED = PolicySettings("initialised", init=InitSettings("learned"))


def write_policy(path, settings=ADAM, horizon=30, model=None, batch_size=None):
    """A policy that has learned nothing, as a file, and a run directory's if the path is one's."""
    model = model or mlp(TASK, [16, 16])
    policy = Policy(settings, model.shapes, model.init, horizon, torch.Generator().manual_seed(0), model.roles)
    card = PolicyCard(
        settings,
        horizon,
        model.spec,
        {name: tuple(shape) for name, shape in model.shapes.items()},
        "tables",
        "0",
        {"inner": {"batch_size": batch_size}},
        model.roles,
    )
    save_policy(Path(path), dict(policy.named_parameters()), card)
    return str(path)
