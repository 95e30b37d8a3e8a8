"""Small tasks, settings and plans on which searches take no time."""

from functools import partial

import torch

from metaopt.inner.draws import draw
from metaopt.models.mlp import mlp
from metaopt.models.objective import objective
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, MomentumSettings, PolicySettings, StrengthSettings
from metaopt.search.rounds import Plan
from metaopt.search.setting import Setting
from metaopt.search.space import ConventionalSpace
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

INPUTS, CLASSES, HORIZON, SUPPORT, BATCH = 5, 3, 6, 18, 6
SPEC = TaskSpec(Kind.classification, (INPUTS,), CLASSES)
REGRESSION = TaskSpec(Kind.regression, (INPUTS,), 2)
PADDED = TaskSpec(Kind.classification, (INPUTS,), CLASSES, padded=True)
USUAL = ("optimizer", "lr", "l2", "momentum", "schedule", "batch_size")


def learned(value=0.1, granularity="element"):
    return StrengthSettings("learned", value, granularity)


def fixed(value):
    return StrengthSettings("fixed", value)


GLOBAL = PolicySettings(lr=learned(0.1, "global"))
EVERYTHING = PolicySettings(
    lr=learned(0.1),
    l2=learned(1e-3),
    pull=learned(1e-2),
    momentum=MomentumSettings("learned", 0.5),
    schedule="step_tensor",
    init=InitSettings("scaled"),
)
BY_ROLE = PolicySettings(
    lr=learned(0.1, "role"), l2=learned(1e-3, "role"), schedule="step_role", init=InitSettings("scaled", "role")
)
ADAPTIVE = PolicySettings(
    lr=learned(0.01),
    l2=learned(1e-3, "tensor"),
    momentum=MomentumSettings("fixed", 0.9),
    preconditioner="second_moment",
)
MAML = PolicySettings(lr=fixed(0.1), init=InitSettings("learned"))


def classification(n=3, seed=0, support=SUPPORT, query=12):
    """Tasks in which each class is a cloud around a centre of its own."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(n, CLASSES, INPUTS, generator=generator)

    def examples(count):
        y = torch.arange(count).remainder(CLASSES).expand(n, count)
        x = centres.gather(1, y[..., None].expand(n, count, INPUTS))
        return Batch(x + torch.randn(n, count, INPUTS, generator=generator), y.contiguous())

    return TaskBatch(examples(support), examples(query), examples(query))


def regression(n=3, seed=0):
    """Tasks in which targets are linear."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, INPUTS, 2, generator=generator)

    def examples(count):
        x = torch.randn(n, count, INPUTS, generator=generator)
        return Batch(x, x @ weight)

    return TaskBatch(examples(SUPPORT), examples(12), examples(12))


def padded(n=4, seed=0, support=SUPPORT):
    """The classification tasks with columns and a class missing from some."""
    tasks = classification(n, seed, support)

    def pad(batch):
        x, y = batch.x.clone(), batch.y % 2 if support < CLASSES else batch.y
        told = torch.nn.functional.one_hot(y, CLASSES)
        for task in range(1, n, 2):
            x[task, :, 3:] = torch.nan
            told[task] = torch.nn.functional.one_hot(y[task] % 2, CLASSES)
            told[task, :, 2] = -1
        return Batch(x, told)

    return TaskBatch(*map(pad, tasks))


def make_setting(policy=GLOBAL, spec=SPEC, widths=(8,), away=0.3, dtype=torch.float32, **options):
    """A setting with a policy that is `away` from where learning would start."""
    model = mlp(spec, widths)
    options = {"horizon": HORIZON, "batch_size": BATCH, "fresh": True} | options
    made = Policy(policy, model.shapes, model.init, options["horizon"], torch.Generator().manual_seed(2), model.roles)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(away * torch.randn(parameter.shape, generator=generator))
    return Setting(
        model=model,
        task=spec,
        objective=partial(objective, kind=spec.kind, padded=spec.padded),
        policy=made.to(dtype),
        dtype=dtype,
        **options,
    )


def make_draws(setting, tasks, seed=1):
    """The comparison's draws."""
    n, n_support = tasks.support.x.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    noisy = setting.policy.settings.draws_noise()
    return draw(setting.model.shapes, n, setting.horizon, setting.batch_size, n_support, generator, noisy)


def make_plan(methods=("random",), trials=4, storage=None, space=None, name="toy"):
    """Each method in a conventional space, or in the one given."""
    space = ConventionalSpace(USUAL, SUPPORT) if space is None else space
    return Plan({method: (method.removesuffix("_warm"), space) for method in methods}, trials, storage, name)
