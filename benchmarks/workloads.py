"""What the benchmarks run: fixed problems, as plain numpy arrays that every candidate is given."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """One meta-iteration: θ ← θ − α ⊙ (g + λ ⊙ θ) for `steps` steps on each task, differentiated.

    Attributes:
        title: for tables.
        model: `mlp` (ReLU) or `conv4` (64 channels, batch norm by the batch's own statistics, max-pooling).
        input_shape: of one example.
        widths: hidden units of an MLP.
        outputs: classes, or regression targets.
        regression: squared error instead of cross-entropy.
        tasks: size of the meta-batch.
        support: examples per task that the inner loop trains on.
        query: examples per task for the outer loss.
        steps: the horizon.
        batch: examples in a minibatch; None: the whole support set.
        lr: around where the learned learning rates, one per parameter, are.
        l2: the same for the L2 strengths; None: there are none.
        learned_init: all tasks start from one learned initialisation, else each from a random one of its own.
        outer_update: the meta-iteration ends with Adam's step on all that is learned.
        threads: cores that a candidate may use.
    """

    title: str
    model: str
    input_shape: tuple[int, ...]
    outputs: int
    tasks: int
    support: int
    query: int
    steps: int
    lr: float
    widths: tuple[int, ...] = ()
    regression: bool = False
    batch: int | None = None
    l2: float | None = None
    learned_init: bool = False
    outer_update: bool = False
    threads: int = 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter tensor, as torch lays them out, in the order of the forward pass."""
        if self.model == "mlp":
            sizes = [math.prod(self.input_shape), *self.widths, self.outputs]
            layers = [*(f"hidden{i}" for i in range(len(self.widths))), "output"]
            pairs = zip(layers, sizes[:-1], sizes[1:], strict=True)
            return {k: v for n, i, o in pairs for k, v in ((f"{n}.weight", (o, i)), (f"{n}.bias", (o,)))}
        shapes: dict[str, tuple[int, ...]] = {}
        channels, height, width = self.input_shape
        for i in range(CONV_BLOCKS):
            shapes[f"conv{i}.weight"] = (CHANNELS, channels, 3, 3)
            shapes[f"norm{i}.weight"] = shapes[f"norm{i}.bias"] = (CHANNELS,)
            channels, height, width = CHANNELS, height // 2, width // 2
        return shapes | {"output.weight": (self.outputs, CHANNELS * height * width), "output.bias": (self.outputs,)}


CHANNELS, CONV_BLOCKS = 64, 4
OUTER_LR = 1e-3

_MLP = Workload(
    title="MLP 784-32-32-10, lr and L2 per parameter, 8 tasks, 50 minibatch steps of 32",
    model="mlp",
    input_shape=(784,),
    widths=(32, 32),
    outputs=10,
    tasks=8,
    support=256,
    query=256,
    steps=50,
    batch=32,
    lr=0.1,
    l2=1e-3,
)
_CONV4 = Workload(
    title="conv4-64, 5-way 1-shot 28×28, Meta-SGD, 16 tasks, 5 full-batch steps",
    model="conv4",
    input_shape=(1, 28, 28),
    outputs=5,
    tasks=16,
    support=5,
    query=75,
    steps=5,
    lr=0.01,
    learned_init=True,
)


def _long_mlp(steps: int) -> Workload:
    title = f"MLP 784-32-32-10, lr and L2 per parameter, 4 tasks, {steps} minibatch steps of 32"
    return replace(_MLP, title=title, tasks=4, query=64, steps=steps)


WORKLOADS = {
    "sinusoid": Workload(
        title="sinusoid, MLP 1-40-40-1, Meta-SGD, 25 tasks, 1 step, with the outer Adam step",
        model="mlp",
        input_shape=(1,),
        widths=(40, 40),
        outputs=1,
        regression=True,
        tasks=25,
        support=5,
        query=5,
        steps=1,
        lr=0.01,
        learned_init=True,
        outer_update=True,
        threads=1,
    ),
    "mlp50": _MLP,
    "mlp400": _long_mlp(400),
    "mlp100": _long_mlp(100),
    "mlp1000": _long_mlp(1000),
    "conv4": _CONV4,
    "conv4_32": replace(_CONV4, title="conv4-64, 5-way 1-shot 28×28, Meta-SGD, 32 tasks, 5 full-batch steps", tasks=32),
    "conv4_50": replace(
        _CONV4, title="conv4-64, 5-way 1-shot 28×28, Meta-SGD, 1 task, 50 full-batch steps", tasks=1, steps=50
    ),
}


def workload(key: str) -> Workload:
    """A workload by its key; `mlp100@25` is `mlp100` at a horizon of 25 steps."""
    name, _, steps = key.partition("@")
    return replace(WORKLOADS[name], steps=int(steps)) if steps else WORKLOADS[name]


def data(workload: Workload, seed: int = 0, dtype: str = "float32") -> Arrays:
    """The workload's arrays, a pure function of the seed; indices are int64.

    Args:
        workload: the workload.
        seed: of all that is random.
        dtype: `float32`, or `float64` for the same numbers in that precision.

    Returns:
        `support_x`, `support_y`, `query_x`, `query_y`: [tasks, examples, …].
        `order`: [tasks, steps, batch], the support examples of each minibatch; absent for full batches.
        `log_lr.NAME`, `log_l2.NAME`: what is learned, of the shape of each parameter tensor.
        `init.NAME`: the learned initialisation, or `start.NAME`: each task's own, [tasks, *shape].
    """
    rng = np.random.default_rng(seed)
    make = _curves if workload.regression else _classes
    arrays = make(workload, rng)
    if workload.batch is not None:
        arrays["order"] = _order(workload, rng)
    for name, shape in workload.shapes.items():
        # Spread, so that a candidate that mixes up entries is found out.
        arrays[f"log_lr.{name}"] = math.log(workload.lr) + 0.1 * rng.standard_normal(shape)
        if workload.l2 is not None:
            arrays[f"log_l2.{name}"] = math.log(workload.l2) + 0.1 * rng.standard_normal(shape)
        if workload.learned_init:
            arrays[f"init.{name}"] = _start(name, shape, workload, rng)
        else:
            arrays[f"start.{name}"] = np.stack([_start(name, shape, workload, rng) for _ in range(workload.tasks)])
    return {k: v.astype(np.float32).astype(dtype) if v.dtype == np.float64 else v for k, v in arrays.items()}


def _curves(workload: Workload, rng: np.random.Generator) -> Arrays:
    amplitude = rng.uniform(0.1, 5.0, (workload.tasks, 1, 1))
    phase = rng.uniform(0.0, math.pi, (workload.tasks, 1, 1))
    arrays: Arrays = {}
    for part, size in (("support", workload.support), ("query", workload.query)):
        x = rng.uniform(-5.0, 5.0, (workload.tasks, size, 1))
        arrays |= {f"{part}_x": x, f"{part}_y": amplitude * np.sin(x - phase)}
    return arrays


def _classes(workload: Workload, rng: np.random.Generator) -> Arrays:
    """Noisy copies of one random prototype per class; balanced, in the size of standardised images."""
    prototypes = rng.standard_normal((workload.tasks, workload.outputs, *workload.input_shape))
    arrays: Arrays = {}
    for part, size in (("support", workload.support), ("query", workload.query)):
        labels = np.stack([rng.permutation(size) % workload.outputs for _ in range(workload.tasks)])
        clean = np.stack([one[label] for one, label in zip(prototypes, labels, strict=True)])
        noise = rng.standard_normal(clean.shape)
        arrays |= {f"{part}_x": 0.1 * clean + 0.3 * noise, f"{part}_y": labels.astype(np.int64)}
    return arrays


def _order(workload: Workload, rng: np.random.Generator) -> np.ndarray:
    """Epochs without replacement, one after the other."""
    assert workload.batch is not None
    needed = workload.steps * workload.batch
    epochs = -(-needed // workload.support)
    rows = [np.concatenate([rng.permutation(workload.support) for _ in range(epochs)]) for _ in range(workload.tasks)]
    return np.stack(rows)[:, :needed].reshape(workload.tasks, workload.steps, workload.batch).astype(np.int64)


def _start(name: str, shape: tuple[int, ...], workload: Workload, rng: np.random.Generator) -> np.ndarray:
    """As torch scales it: ones and zeros in normalisation, else a standard deviation of 1/√(3 fan-in)."""
    layer, _, kind = name.partition(".")
    if layer.startswith("norm"):
        return np.full(shape, 1.0 if kind == "weight" else 0.0)
    fan_in = math.prod(workload.shapes[f"{layer}.weight"][1:])
    return rng.standard_normal(shape) / math.sqrt(3 * fan_in)
