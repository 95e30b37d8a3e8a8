"""A meta-training problem that runs in milliseconds: regressions on one slope for each task."""

import torch

from metaopt.inner.reverse import Reverse
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.outer.loop import Validation, sample
from metaopt.outer.problem import InnerProblem, OuterSettings
from metaopt.outer.state import new_state
from metaopt.policies.file import PolicyCard
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.tasks.family import hash_splits
from metaopt.types import SPLITS, Batch, Kind, TaskBatch, TaskSpec

HORIZON = 3
SETTINGS = PolicySettings(
    lr=StrengthSettings("learned", 0.1, "element"),
    momentum=MomentumSettings("learned", 0.5),
    schedule="step",
    init=InitSettings("learned"),
)


class Slopes:
    """y = a x, with the sign of a for the split to choose."""

    name = "slopes"
    spec = TaskSpec(Kind.regression, (1,), 1)
    split_hash = hash_splits("slopes", {split: [split] for split in SPLITS})

    def sample(self, split, n, generator):
        slope = 1 + torch.rand(n, 1, 1, generator=generator)

        def batch(size):
            x = torch.randn(n, size, 1, generator=generator)
            return Batch(x, slope * x)

        return TaskBatch(batch(6), batch(5), batch(7))


def make_problem(settings=SETTINGS, batch_size=4, hypergradient=None):
    model = mlp(Slopes.spec, [3], "tanh")
    found = objective(model, Kind.regression)
    return InnerProblem(Slopes(), model, found, HORIZON, batch_size, hypergradient or Reverse(), chunk=4)


def make_state(problem, outer, settings=SETTINGS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    policy = Policy(settings, problem.model.shapes, problem.model.init, problem.horizon, generator)
    return new_state(policy, outer, torch.Generator().manual_seed(seed + 1))


def make_validation(problem, n=4):
    return Validation(*sample(problem, "meta_validation", n, torch.Generator().manual_seed(99)))


def make_card(problem, settings=SETTINGS):
    return PolicyCard(
        policy=settings,
        horizon=problem.horizon,
        model=problem.model.spec,
        parameters={name: tuple(shape) for name, shape in problem.model.shapes.items()},
        tasks=problem.family.name,
        split_hash=problem.family.split_hash,
        config={},
    )


def short(**changes):
    """Settings of a short meta-training."""
    return OuterSettings(**({"iterations": 12, "meta_batch": 3, "validate_every": 4, "checkpoint_every": 5} | changes))


def parameters(state):
    return {name: p.detach().clone() for name, p in state.policy.named_parameters()}


def ignore(_):
    """Where nothing is logged or saved."""
