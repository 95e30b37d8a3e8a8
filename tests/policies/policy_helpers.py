"""A small model's shapes, and policies for it."""

import torch

from metaopt.models.model import Moments
from metaopt.policies.policy import Policy
from metaopt.policies.settings import PolicySettings, StrengthSettings

SHAPES = {"hidden.weight": torch.Size([4, 3]), "hidden.bias": torch.Size([4]), "norm.weight": torch.Size([4])}
INIT = {"hidden.weight": Moments(0.0, 0.5), "hidden.bias": Moments(0.0, 0.3), "norm.weight": Moments(1.0, 0.0)}
HORIZON = 5


def make_policy(settings=None, horizon=HORIZON, seed=0):
    """A policy in float64, away from its starting point."""
    generator = torch.Generator().manual_seed(seed)
    policy = Policy(settings or PolicySettings(), SHAPES, INIT, horizon, generator).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * normal(parameter.shape, generator))
    return policy


def learned(value=0.1, granularity="element"):
    return StrengthSettings("learned", value, granularity)


def fixed(value):
    return StrengthSettings("fixed", value)


def normal(shape, generator):
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def tree(seed):
    """One standard normal tensor for each parameter tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {name: normal(shape, generator) for name, shape in SHAPES.items()}


def trained(rule, params, steps, gradient=None):
    """The parameters after each step; by default of a loss whose gradient is sin θ + θ/2."""
    gradient = gradient or (lambda p: p.sin() + p / 2)
    state = rule.init(params)
    path = []
    for step in range(steps):
        params, state = rule.update(params, {name: gradient(p) for name, p in params.items()}, state, step)
        path.append(params)
    return path


def trained_by_torch(optimizer, params, steps, gradient=None, **options):
    """The same with a torch optimizer."""
    gradient = gradient or (lambda p: p.sin() + p / 2)
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    plain = optimizer(leaves.values(), **options)
    path = []
    for _ in range(steps):
        for p in leaves.values():
            p.grad = gradient(p.detach())
        plain.step()
        path.append({name: p.detach().clone() for name, p in leaves.items()})
    return path
