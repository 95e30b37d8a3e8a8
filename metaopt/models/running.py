"""Anybody's module as a function of its parameters: nothing of its own changes, and what it draws can be repeated."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from metaopt.types import Params

STREAM = 0x9E3779B97F4A7C15
"""How far apart the seeds of two steps are."""
SCORING = -1
"""The step whose random numbers a pass has in which nothing is trained."""


@dataclass
class Habits:
    """What a module was seen to do in a pass of training besides computing its outputs.

    Attributes:
        draws: names of the submodules that draw random numbers; "" is the module itself.
        writes: names of the buffers that are written; None: nobody has looked.
        refuses_fused: whether torch has derivatives for it only without the kernels that fuse whole layers.
        told: whether the user has been told that its tasks are trained one at a time.
    """

    draws: set[str] = field(default_factory=set)
    writes: set[str] | None = None
    refuses_fused: bool = False
    told: bool = False


def as_function(module: nn.Module, params: Params, inputs: tuple[Any, ...], habits: Habits) -> Any:
    """A module's outputs; its own parameters and buffers stay as they are.

    What is no parameter is a constant in the parameters' dtype and on their device. A buffer that a pass writes, such
    as running statistics in training mode, is written into a copy that nobody sees again. Attention is computed by
    plain products, because fused kernels have no second derivatives.

    Args:
        module: any.
        params: those that are trained, by name.
        inputs: of `forward`.
        habits: what is known of the module.
    """
    with plain_kernels(habits.refuses_fused):
        return torch.func.functional_call(module, {**constants(module, params, habits.writes), **params}, inputs)


def constants(module: nn.Module, params: Params, writes: Container[str] | None = None) -> Params:
    """A module's buffers and frozen parameters, by name, for a pass with these parameters; copies of those in `writes`.

    None: of all.
    """
    like = next(iter(params.values()))
    found = {name: p.detach() for name, p in module.named_parameters() if name not in params}
    found |= dict(module.named_buffers())
    for name, tensor in found.items():
        dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
        found[name] = tensor.to(like.device, dtype)
        if (
            writes is None or name in writes
        ):  # where tasks are side by side, each needs a copy: the zero has their dimension
            found[name] = found[name] + like.new_zeros((), dtype=dtype)
    return found


@contextmanager
def without_draws(module: nn.Module, habits: Habits) -> Iterator[None]:
    """Submodules that draw are in evaluation mode in the block; what draws all the same has a stream of its own."""
    if not habits.draws:
        yield
        return
    drawing = [layer for layer in map(module.get_submodule, habits.draws) if layer.training]
    for layer in drawing:
        layer.training = False
    try:
        with stream(0, SCORING):
            yield
    finally:
        for layer in drawing:
            layer.training = True


@contextmanager
def stream(seed: int | Tensor, step: int | Tensor) -> Iterator[None]:
    """Torch's random numbers in the block are those of a seed and a step, and outside they go on as without it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((int(seed) + (int(step) + 1) * STREAM) % 2**63)
        yield


@contextmanager
def plain_kernels(unfused: bool) -> Iterator[None]:
    """Attention by plain products in the block; with `unfused`, recurrent layers and the like step by step, too."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if unfused:
            stack.callback(torch.backends.mkldnn.set_flags, *torch.backends.mkldnn.set_flags(False)[:1])
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
