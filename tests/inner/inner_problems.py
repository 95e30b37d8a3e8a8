"""Small problems in float64, in which everything that can be learned is learned."""

from typing import NamedTuple

import torch

from metaopt.inner.adapt import adapt
from metaopt.inner.draws import Draws, cast_draws, draw
from metaopt.models.conv4 import conv4
from metaopt.models.mlp import mlp
from metaopt.models.model import Model
from metaopt.models.objective import Objective, objective
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

CLASSES = 3
REGIMES = ("few_shot", "from_scratch")
GRANULARITIES = ("global", "tensor", "element")
EVERY_GRANULARITY = (*GRANULARITIES, "role")
# Of more than one pixel in conv4's last block: at one pixel, batch normalisation cancels what the block before it adds.
IMAGE = (1, 16, 8)
PRECONDITIONERS = {("few_shot", "tensor"): "curvature", ("from_scratch", "role"): "second_moment"}


class Problem(NamedTuple):
    policy: Policy
    model: Model
    kind: Kind
    objective: Objective
    tasks: TaskBatch
    draws: Draws
    horizon: int

    def hypergradients(self, method):
        return method(self.policy, self.objective, self.tasks, self.draws, self.horizon)

    def through(self, method, **options):
        """Hypergradients by a method that wants to know the model."""
        return self.hypergradients(method(self.model, self.kind, **options))


def everything_learned(regime, granularity):
    """All quantities at once; each kind of initialisation and of schedule occurs in one of the regimes.

    Matrices for the gradients, which have no granularity, occur in one of the combinations.
    """
    few_shot = regime == "few_shot"
    return PolicySettings(
        lr=StrengthSettings("learned", 0.3, granularity),
        l2=StrengthSettings("learned", 0.3, granularity),
        pull=StrengthSettings("learned", 0.5, granularity),
        momentum=MomentumSettings("learned", 0.6),
        schedule="step" if few_shot else "step_role" if granularity == "role" else "step_tensor",
        init=InitSettings("learned") if few_shot else InitSettings("scaled", granularity),
        preconditioner=PRECONDITIONERS.get((regime, granularity), "off"),
    )


def tiny_mlp(kind=Kind.classification, activation="tanh"):
    return mlp(TaskSpec(kind, (3,), CLASSES if kind is Kind.classification else 2), [4], activation)


def tiny_conv4(norm, downsample="pool", channels=3):
    return conv4(TaskSpec(Kind.classification, IMAGE, CLASSES), channels, norm, downsample)


def make_problem(
    settings,
    model,
    kind=Kind.classification,
    input_shape=(3,),
    horizon=3,
    batch_size=None,
    n_support=7,
    n_tasks=2,
    seed=0,
):
    """Random tasks, and a policy away from its symmetric starting point."""
    generator = torch.Generator().manual_seed(seed)
    policy = Policy(settings, model.shapes, model.init, horizon, generator, model.roles).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * normal(parameter.shape, generator))

    def examples(n):
        x = normal((n_tasks, n, *input_shape), generator)
        if kind is Kind.regression:
            return Batch(x, normal((n_tasks, n, 2), generator))
        return Batch(x, torch.randint(CLASSES, (n_tasks, n), generator=generator))

    tasks = TaskBatch(examples(n_support), examples(5), examples(6))
    drawn = draw(model.shapes, n_tasks, horizon, batch_size, n_support, generator, settings.draws_noise())
    draws = cast_draws(drawn, torch.float64)
    return Problem(policy, model, kind, objective(model, kind), tasks, draws, horizon)


def mlp_problem(regime, granularity, kind=Kind.classification, **options):
    """Few-shot: 3 full-batch steps. From scratch: 5 minibatch steps."""
    steps = {"horizon": 3} if regime == "few_shot" else {"horizon": 5, "batch_size": 3}
    return make_problem(everything_learned(regime, granularity), tiny_mlp(kind), kind, **(steps | options))


def conv4_problem(regime, granularity, norm, downsample="pool", channels=3, **options):
    steps = {"horizon": 2} if regime == "few_shot" else {"horizon": 3, "batch_size": 4}
    model = tiny_conv4(norm, downsample, channels)
    return make_problem(
        everything_learned(regime, granularity), model, input_shape=IMAGE, n_support=6, **(steps | options)
    )


def normal(shape, generator):
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64)


def query_losses(problem, hypers, side_by_side=True):
    """Query losses after training, [points, tasks], at policy parameters [points, *shape], without any gradient."""

    def at(hyper, chunk=64):
        def learner(noise):
            return torch.func.functional_call(problem.policy, hyper, (noise,))

        _, _, _, objective, tasks, draws, horizon = problem
        return adapt(learner, objective, tasks, draws, horizon, on="query", chunk=chunk).loss[:, -1]

    if side_by_side:
        return torch.func.vmap(at, chunk_size=128)(hypers)
    n_points = len(next(iter(hypers.values())))
    return torch.stack([at({name: value[i] for name, value in hypers.items()}, chunk=1) for i in range(n_points)])


def central_difference_errors(problem, grads, steps, seed=0, side_by_side=True):
    """Largest error by policy parameter, relative to the largest entry of its hypergradient.

    Fourth-order central differences along a random direction, and along the largest and a random single entry.

    Args:
        problem: says what is differentiated.
        grads: the hypergradients to be checked, summed over the tasks.
        steps: distances between the points of a stencil; the one that agrees best counts. Rounding spoils short steps
            and kinks spoil long ones, but neither can make a wrong derivative agree.
        seed: of the directions.
        side_by_side: whether training can go through `vmap`; torch's own optimizers cannot.
    """
    probes = _probes(grads, torch.Generator().manual_seed(seed))
    offsets = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / 12
    moves = torch.tensor(steps, dtype=torch.float64)[:, None] * offsets
    hypers = {}
    for name, value in problem.policy.named_parameters():
        points = value.detach().repeat(len(probes), *moves.shape, *[1] * value.dim())
        for i, (moved, direction) in enumerate(probes):
            if moved == name:
                points[i] += moves.view(*moves.shape, *[1] * value.dim()) * direction
        hypers[name] = points.flatten(0, 2)
    losses = query_losses(problem, hypers, side_by_side).sum(-1).view(len(probes), *moves.shape)
    slopes = losses @ weights / torch.tensor(steps, dtype=torch.float64)
    errors = dict.fromkeys(grads, 0.0)
    for (name, direction), slope in zip(probes, slopes, strict=True):
        difference = (slope - (grads[name] * direction).sum()).abs().min() / grads[name].abs().max()
        errors[name] = max(errors[name], float(difference.nan_to_num(torch.inf)))
    return errors


def _probes(grads, generator):
    """Pairs of a policy parameter's name and a direction of unit length."""
    for_all = []
    for name, grad in grads.items():
        # Every entry counts with the same sign, or a random direction could be one in which nothing changes.
        signs = torch.where(grad >= 0, 1.0, -1.0).double()
        aligned = signs * normal(grad.shape, generator).abs()
        for_all.append((name, aligned / aligned.norm()))
        if grad.numel() > 1:
            entries = (grad.abs().argmax(), torch.randint(grad.numel(), (), generator=generator))
            for_all += [(name, torch.eye(grad.numel(), dtype=torch.float64)[i].view(grad.shape)) for i in entries]
    return for_all


def summed(hypergradients):
    return {name: grads.sum(0) for name, grads in hypergradients.grads.items()}


def relative_differences(found, expected):
    """Largest difference by name, relative to the largest entry expected."""
    assert found.keys() == expected.keys()
    return {
        name: float(((found[name] - expected[name]).abs().max() / expected[name].abs().max()).nan_to_num(torch.inf))
        for name in expected
    }


def above(errors, limit):
    """The entries that a failed comparison should name."""
    return {name: error for name, error in errors.items() if not error <= limit}
