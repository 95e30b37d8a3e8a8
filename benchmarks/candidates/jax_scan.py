"""JAX: one compiled function; `vmap` over the tasks and `lax.scan` over the steps.

Convolutions want another form on XLA's CPU backend: under `vmap` each task's own weights make them grouped, and inside
a loop they run twenty times slower. So convolutional tasks go one by one through a function that is compiled for one
task, with its steps unrolled (variants `vmap` and `loop`). Fifty steps unrolled do not compile within minutes: there
the convolution is a matrix product, as fast inside a loop as the other outside, for more memory. Images are in the
layout that XLA prefers, NHWC, and max-pooling is written with selections, which are faster in second derivatives than a
window reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from workloads import CONV_BLOCKS, OUTER_LR, Arrays, Workload

Tree = dict[str, Any]
UNROLLED = 10
"""The most convolutional steps that are compiled without a loop."""


def forward(workload: Workload, params: Tree, x: jax.Array) -> jax.Array:
    """The network's outputs, [examples, outputs]."""
    if workload.model == "mlp":
        for i in range(len(workload.widths)):
            x = jax.nn.relu(x @ params[f"hidden{i}.weight"] + params[f"hidden{i}.bias"])
    else:
        for i in range(CONV_BLOCKS):
            x = _convolve(x, params[f"conv{i}.weight"], workload.steps <= UNROLLED)
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            x = (x - mean) * (params[f"norm{i}.weight"] * lax.rsqrt(variance + 1e-5)) + params[f"norm{i}.bias"]
            x = _pool(jax.nn.relu(x))
        x = x.reshape(x.shape[0], -1)
    return x @ params["output.weight"] + params["output.bias"]


def _convolve(x: jax.Array, weight: jax.Array, native: bool) -> jax.Array:
    """A 3×3 convolution, XLA's own or as one matrix product."""
    if native:
        return lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, -1) @ weight.reshape(9 * channels, -1)


def _pool(x: jax.Array) -> jax.Array:
    """2×2 max-pooling. `max` over a reshape is no alternative.

    Its derivative asks which entries equal the maximum, which XLA may have computed with another rounding.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    a, b, c, d = (x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    upper, lower = jnp.where(a > b, a, b), jnp.where(c > d, c, d)
    return jnp.where(upper > lower, upper, lower)


def mean_query_loss(workload: Workload) -> Callable[[Tree, Tree], jax.Array]:
    """(what is learned, the tasks) -> mean query loss after training."""

    def loss(params: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        outputs = forward(workload, params, x)
        if workload.regression:
            return jnp.mean((outputs - y) ** 2)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()

    def train(learned: Tree, task: Tree) -> jax.Array:
        lr, l2 = jax.tree.map(jnp.exp, learned["lr"]), jax.tree.map(jnp.exp, learned["l2"])

        def step(params: Tree, rows: jax.Array | None) -> tuple[Tree, None]:
            x, y = task["support_x"], task["support_y"]
            if rows is not None:
                x, y = x[rows], y[rows]
            grads = jax.grad(loss)(params, x, y)
            if l2:
                grads = jax.tree.map(lambda g, strength, p: g + strength * p, grads, l2, params)
            return jax.tree.map(lambda p, rate, g: p - rate * g, params, lr, grads), None

        start = learned["init"] or task["start"]
        short = workload.steps == 1 or (workload.model == "conv4" and workload.steps <= UNROLLED)
        unroll = workload.steps if short else 1
        params, _ = lax.scan(step, start, task["order"], length=workload.steps, unroll=unroll)
        return loss(params, task["query_x"], task["query_y"])

    return lambda learned, tasks: jax.vmap(train, (None, 0))(learned, tasks).mean()


class Jax:
    """See `Candidate`."""

    def __init__(self, workload: Workload, arrays: Arrays, side_by_side: bool) -> None:
        self._workload = workload
        kinds = (("lr", "log_lr"), ("l2", "log_l2"), ("init", "init"))
        self._learned = {kind: _tree(workload, arrays, source) for kind, source in kinds}
        tasks: Tree = {name: arrays.get(name) for name in ("support_y", "query_y", "order")}
        tasks |= {name: _images(arrays[name]) for name in ("support_x", "query_x")}
        tasks |= {"start": _tree(workload, arrays, "start")}
        size = workload.tasks if side_by_side else 1
        self._groups = [
            jax.device_put(jax.tree.map(lambda leaf, i=i: leaf[i : i + size], tasks))
            for i in range(0, workload.tasks, size)
        ]
        value_and_grad = jax.value_and_grad(mean_query_loss(workload))
        self._compiled = jax.jit(value_and_grad).lower(self._learned, self._groups[0]).compile()
        self._sum = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b), donate_argnums=0)
        self._mean = jax.jit(lambda a: jax.tree.map(lambda leaf: leaf / len(self._groups), a))
        if workload.outer_update:
            assert side_by_side, "the outer update is compiled together with the hypergradient"
            adam = optax.adam(OUTER_LR)
            self._state = adam.init(self._learned)

            def meta_step(learned: Tree, state: Any, tasks: Tree) -> tuple[Tree, Any, jax.Array]:
                value, grads = value_and_grad(learned, tasks)
                updates, state = adam.update(grads, state)
                return optax.apply_updates(learned, updates), state, value

            step = jax.jit(meta_step, donate_argnums=(0, 1))
            self._meta_step = step.lower(self._learned, self._state, self._groups[0]).compile()
            # What is donated is gone, so that the hypergradients keep a copy of the starting point.
            self._moving = jax.tree.map(jnp.copy, self._learned)

    def hypergradients(self) -> Arrays:
        """See `Candidate`."""
        grads = self._differentiate()
        return {
            f"{kind}.{name}": _torch_layout(np.asarray(g)) for kind, tree in grads.items() for name, g in tree.items()
        }

    def iteration(self) -> None:
        """See `Candidate`."""
        if self._workload.outer_update:
            self._moving, self._state, value = self._meta_step(self._moving, self._state, self._groups[0])
            jax.block_until_ready((self._moving, self._state, value))
        else:
            jax.block_until_ready(self._differentiate())

    def _differentiate(self) -> Tree:
        total = None
        for group in self._groups:
            _, grads = self._compiled(self._learned, group)
            total = grads if total is None else self._sum(total, grads)
        return total if len(self._groups) == 1 else self._mean(total)


def _tree(workload: Workload, arrays: Arrays, source: str) -> Tree:
    names = [name for name in workload.shapes if f"{source}.{name}" in arrays]
    tasks = 1 if source == "start" else 0
    return {name: jnp.asarray(_own_layout(arrays[f"{source}.{name}"], tasks)) for name in names}


def _own_layout(weight: np.ndarray, leading: int) -> np.ndarray:
    """[out, in] to [in, out], and [out, in, h, w] to [h, w, in, out], behind `leading` dimensions."""
    axes = {1: [0], 2: [1, 0], 4: [2, 3, 1, 0]}[weight.ndim - leading]
    return weight.transpose(*range(leading), *(leading + axis for axis in axes))


def _torch_layout(weight: np.ndarray) -> np.ndarray:
    """The inverse of `_own_layout`."""
    return weight.transpose({1: [0], 2: [1, 0], 4: [3, 2, 0, 1]}[weight.ndim])


def _images(x: np.ndarray) -> np.ndarray:
    """[tasks, examples, channels, h, w] to [tasks, examples, h, w, channels]; other inputs as they are."""
    return x.transpose(0, 1, 3, 4, 2) if x.ndim == 5 else x


def build(workload: Workload, arrays: Arrays, variant: str | None) -> Jax:
    """See `candidates.build`; the variant is `vmap` or `loop`, by default the faster."""
    assert variant in (None, "vmap", "loop"), f"JAX has no variant {variant}"
    return Jax(workload, arrays, (variant or ("vmap" if workload.model == "mlp" else "loop")) == "vmap")
