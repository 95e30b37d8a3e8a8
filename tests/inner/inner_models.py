"""A small problem for each model beside `mlp` and `conv4`, which have problems of their own."""

from functools import partial

import torch
from inner_problems import CLASSES, everything_learned, make_problem

from metaopt.models.linear import linear
from metaopt.models.resnet import resnet
from metaopt.models.transformer import transformer
from metaopt.types import Batch, Kind, TaskBatch, TaskSpec

IMAGE = (1, 8, 4)
WORDS = 5
TINY = {"width": 4, "heads": 2, "depth": 1}
# With rectifiers and max-pooling, the end of training jumps where a unit switches: these seeds are clear of it.
MODELS = {
    "linear": (linear, (3,), Kind.classification, 0),
    "linear-regression": (linear, (3,), Kind.regression, 0),
    "resnet-batch": (partial(resnet, channels=[2, 3]), IMAGE, Kind.classification, 0),
    "resnet-layer": (partial(resnet, channels=[2, 3], norm="layer", downsample="pool"), IMAGE, Kind.classification, 0),
    "resnet-none": (partial(resnet, channels=[2, 3], norm="none"), IMAGE, Kind.classification, 1),
    "columns": (partial(transformer, **TINY), (3,), Kind.classification, 0),
    "columns-regression": (partial(transformer, **TINY), (3,), Kind.regression, 0),
    "sequence": (partial(transformer, **TINY), (3, 2), Kind.classification, 0),
    "rows": (partial(transformer, **TINY), IMAGE, Kind.classification, 0),
    "patches": (partial(transformer, **TINY, patch=2), IMAGE, Kind.classification, 0),
    "words": (partial(transformer, **TINY), (3,), Kind.classification, 0),
    "bag": (partial(transformer, **TINY, positions=False), (3,), Kind.classification, 0),
}


def model_problem(name, regime, granularity, **options):
    """Few-shot: 2 full-batch steps. From scratch: 3 minibatch steps. In sequences, one token in six is not there."""
    build, shape, kind, seed = MODELS[name]
    vocabulary = WORDS if name in ("words", "bag") else None
    outputs = 2 if kind is Kind.regression else CLASSES
    steps = {"horizon": 2} if regime == "few_shot" else {"horizon": 3, "batch_size": 4}
    problem = make_problem(
        everything_learned(regime, granularity),
        build(TaskSpec(kind, shape, outputs, vocabulary=vocabulary)),
        kind,
        shape,
        **({"seed": seed, "n_support": 6} | steps | options),
    )
    if vocabulary or name == "sequence":
        convert = _words if vocabulary else _ragged
        return problem._replace(tasks=TaskBatch(*(Batch(convert(x), y) for x, y in problem.tasks)))
    return problem


def _words(x):
    return (3 * x).abs().floor() % WORDS


def _ragged(x):
    gone = torch.arange(x[..., 0].numel()).view(x.shape[:-1]) % 6 == 5
    return x.masked_fill(gone.unsqueeze(-1), torch.nan)
