"""Modules of a stranger's, and problems in which they are trained."""

import torch
from inner_problems import CLASSES, Problem, make_problem
from torch import nn

from metaopt.models.model import model_from
from metaopt.policies.policy import Policy
from metaopt.policies.settings import InitSettings, PolicySettings, StrengthSettings
from metaopt.types import Batch, Kind, TaskBatch

FLAT, SEQUENCE, IMAGE = (6,), (5, 6), (1, 6, 6)
IDS = 7
SETTINGS = PolicySettings(lr=StrengthSettings("learned", 0.1, "tensor"), init=InitSettings("scaled"))


class Head(nn.Module):
    """A layer of sequences below a linear one."""

    def __init__(self, layer, width=6):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(width, CLASSES)

    def forward(self, x):
        if isinstance(self.layer, nn.MultiheadAttention):
            found = self.layer(x, x, x, need_weights=False)[0]
        elif isinstance(self.layer, nn.GRUCell):
            found = None
            for t in range(x.shape[1]):
                found = self.layer(x[:, t], found)
            return self.out(found)
        else:
            found = self.layer(x)
        return self.out((found[0] if isinstance(found, tuple) else found).mean(1))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(0.3 * torch.randn(6, 8))
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.out(torch.tanh(x @ self.table))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Pair(nn.Bilinear):
    def forward(self, x):
        return super().forward(x, x)


class Changed(nn.Module):
    """A linear layer before which something is done."""

    def __init__(self, change):
        super().__init__()
        self.out, self.change = nn.Linear(6, CLASSES), change
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(6))
        self.calls = 0

    def forward(self, x):
        return self.out(self.change(self, x))


def noisy(_module, x):
    return x + 0.3 * torch.randn_like(x)


def counting(module, x):
    module.seen += 1
    module.mean = 0.9 * module.mean + 0.1 * x.detach().mean(0)
    return x


def branching(_module, x):
    return x if x.sum().item() > 0 else 2 * x


def in_place(_module, x):
    x = x.clone()
    x[:, 0] = 0
    return x.mul_(2)


def ids(embedding):
    return nn.Sequential(embedding, nn.Flatten(), nn.Linear(12, CLASSES))


def dense(*layers, width=8):
    return nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(width, CLASSES))


def image(*layers, width=64):
    return nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Flatten(), nn.Linear(width, CLASSES))


def frozen():
    module = dense(nn.Tanh())
    module[0].weight.requires_grad_(False)
    return module


MODULES = {
    "own parameter": (Own, FLAT),
    "GRUCell": (lambda: Head(nn.GRUCell(6, 6)), SEQUENCE),
    "GRU": (lambda: Head(nn.GRU(6, 6, batch_first=True)), SEQUENCE),
    "LSTM": (lambda: Head(nn.LSTM(6, 6, 2, batch_first=True, dropout=0.3)), SEQUENCE),
    "Conv1d": (lambda: nn.Sequential(nn.Conv1d(5, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES)), SEQUENCE),
    "ConvTranspose2d": (lambda: image(nn.ConvTranspose2d(4, 2, 2, groups=2), width=50), IMAGE),
    "Embedding": (lambda: ids(nn.Embedding(IDS, 4)), "ids"),
    "Embedding, padded": (lambda: ids(nn.Embedding(IDS, 4, padding_idx=0)), "ids"),
    "MultiheadAttention": (lambda: Head(nn.MultiheadAttention(6, 2, batch_first=True)), SEQUENCE),
    "encoder": (lambda: Head(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)), SEQUENCE),
    "GroupNorm": (lambda: image(nn.GroupNorm(2, 4), nn.Tanh()), IMAGE),
    "LayerNorm": (lambda: dense(nn.LayerNorm(8), nn.Tanh()), FLAT),
    "BatchNorm": (lambda: dense(nn.Tanh(), nn.BatchNorm1d(8)), FLAT),
    "BatchNorm without statistics": (lambda: dense(nn.Tanh(), nn.BatchNorm1d(8, track_running_stats=False)), FLAT),
    "BatchNorm in evaluation": (lambda: dense(nn.BatchNorm1d(8), nn.Tanh()).eval(), FLAT),
    "InstanceNorm": (lambda: image(nn.Tanh(), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), IMAGE),
    "Dropout": (lambda: dense(nn.Tanh(), nn.Dropout(0.5)), FLAT),
    "RReLU": (lambda: dense(nn.RReLU()), FLAT),
    "noise": (lambda: Changed(noisy), FLAT),
    "tied": (Tied, FLAT),
    "frozen": (frozen, FLAT),
    "writer": (lambda: Changed(counting), FLAT),
    "branch": (lambda: Changed(branching), FLAT),
    "in place": (lambda: Changed(in_place), FLAT),
    "Bilinear": (lambda: Pair(6, 6, CLASSES), FLAT),
    "PReLU": (lambda: dense(nn.PReLU(8)), FLAT),
    "weight_norm": (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, CLASSES))), FLAT),
}


def made(name):
    """The module, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODULES[name][0]()


def own_problem(module, shape, policy=Policy, n_tasks=2, **options):
    """Three minibatch steps on a module's tasks; `ids`: whole numbers."""
    model = model_from(module, {"name": "own"})
    given = FLAT if shape == "ids" else shape
    problem = make_problem(
        SETTINGS, model, Kind.classification, given, batch_size=4, n_support=6, n_tasks=n_tasks, **options
    )
    if policy is not Policy:
        own = policy(SETTINGS, model.shapes, model.init, 3, torch.Generator().manual_seed(0), model.roles)
        problem = problem._replace(policy=own.double())
    if shape == "ids":
        whole = (Batch((x.abs() * 3).long()[..., :3] % IDS, y) for x, y in problem.tasks)
        problem = problem._replace(tasks=TaskBatch(*whole))
    return problem


def problem_of(name, **options) -> Problem:
    return own_problem(made(name), MODULES[name][1], **options)
