"""Policy files of every kind, for a small network."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from omegaconf import OmegaConf

from metaopt.config.policy import PolicyConfig
from metaopt.models.mlp import mlp
from metaopt.policies.file import PolicyCard, save_policy
from metaopt.policies.policy import Policy
from metaopt.types import Batch, Kind, TaskSpec

CONF = Path(__file__).parents[2] / "conf" / "policy"
POLICIES = sorted(path.stem for path in CONF.glob("*.yaml"))
STEPS = 50
MODEL = mlp(TaskSpec(Kind.classification, (6,), 3), [8, 7], "tanh")


@cache
def settings_of(name):
    schema = OmegaConf.structured(PolicyConfig)
    return OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(CONF / f"{name}.yaml"))).settings()


def write_policy(path, settings, horizon=STEPS, model=MODEL, size=0.2):
    """A policy file with numbers away from where learning starts; the policy in float64."""
    generator = torch.Generator().manual_seed(1)
    policy = Policy(settings, model.shapes, model.init, horizon, generator, model.roles).double()
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=torch.float64))
            p.copy_(p.float())
    card = PolicyCard(
        policy=settings,
        horizon=horizon,
        model=model.spec,
        parameters={name: tuple(shape) for name, shape in model.shapes.items()},
        tasks="digits",
        split_hash="0",
        config={"inner": {"batch_size": 16}},
        roles=model.roles,
    )
    save_policy(path, {name: p.float() for name, p in policy.named_parameters()}, card)
    return policy


def module_with(params, model=MODEL):
    """An ordinary torch module in float64 with these parameters."""
    module = deepcopy(model.module).double()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(params[name])
    return module


def examples(n=40, seed=2):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    return Batch(x, (x[:, :3] + 0.5 * x[:, 3:]).argmax(-1))


def noise_for(model=MODEL, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in model.shapes.items()}
