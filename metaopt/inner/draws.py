"""All randomness of an unroll, drawn before it starts, so that a step that is recomputed is the same step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaopt.errors import ConfigError
from metaopt.policies.loss_strengths import BANK_SIZE
from metaopt.policies.progressive import PARTS, progressive_order
from metaopt.policies.rule import LossNoise
from metaopt.types import Params


class Draws(NamedTuple):
    """The random part of training on a batch of tasks.

    Attributes:
        noise: standard normal, [tasks, *shape] for each of the model's parameter tensors.
        order: which support examples make the minibatch of each step, [tasks, steps, batch]; None: always all of them.
        loss: what enters the inner losses, [tasks, *] each.
    """

    noise: Params
    order: Tensor | None
    loss: LossNoise = LossNoise()


def draw(
    shapes: Mapping[str, torch.Size],
    n_tasks: int,
    horizon: int,
    batch_size: int | None,
    n_support: int,
    generator: torch.Generator,
    loss_noise: bool = False,
    progressive: bool = False,
    start_noise: bool = True,
) -> Draws:
    """Draws noise and minibatch order for training on `n_tasks` tasks.

    Args:
        shapes: the model's parameter tensors.
        n_tasks: number of tasks.
        horizon: number of inner steps.
        batch_size: examples in a minibatch; None, or a size that covers the support set, means all examples.
        n_support: examples in each task's support set.
        generator: the only source of randomness.
        loss_noise: whether random numbers enter the inner losses. They are drawn last: what else is drawn is the same
            without them.
        progressive: whether examples join one part after the other (`progressive_order`).
        start_noise: false where a learned initialisation needs no noise: it is zeros then, without memory.

    Returns:
        Noise, seeds for models that draw random numbers themselves, and an order in which each task goes through its
        support set in epochs, each in a new random order; a minibatch may span the end of one epoch and the beginning
        of the next.

    Raises:
        ConfigError: there are too few examples to join in parts.
    """
    noise = {
        name: torch.randn(n_tasks, *shape, generator=generator) if start_noise else _nothing(n_tasks, *shape)
        for name, shape in shapes.items()
    }
    order = None
    if progressive:
        if n_support < PARTS:
            raise ConfigError(
                f"policy.order is progressive, which needs at least {PARTS} support examples, but tasks have "
                f"{n_support}; choose epochs"
            )
        order = progressive_order(n_tasks, horizon, min(batch_size or n_support, n_support), n_support, generator)
    elif batch_size is not None and batch_size < n_support:
        epochs = -(-horizon * batch_size // n_support)
        keys = torch.rand(n_tasks, epochs, n_support, generator=generator)
        order = keys.argsort(-1).flatten(1)[:, : horizon * batch_size].reshape(n_tasks, horizon, batch_size)
    bank = torch.randn(n_tasks, BANK_SIZE, generator=generator) if loss_noise else None
    return Draws(noise, order, LossNoise(bank, seed=_seeds(n_tasks, generator)))


def take_draws(draws: Draws, index: int | slice | Tensor) -> Draws:
    """The draws of the tasks at `index`; an int takes one task and drops the dimension."""
    noise = {name: tensor[index] for name, tensor in draws.noise.items()}
    loss = LossNoise(*(None if tensor is None else tensor[index] for tensor in draws.loss))
    return Draws(noise, None if draws.order is None else draws.order[index], loss)


def task_dims(draws: Draws) -> tuple[Any, ...]:
    """Where the tasks are, for `vmap`, in each field of the draws; None where there is nothing."""

    def dim(tensor: Tensor | None) -> int | None:
        return None if tensor is None else 0

    return 0, dim(draws.order), LossNoise(*map(dim, draws.loss))  # type: ignore[arg-type]


def lengthen_draws(draws: Draws, steps: int) -> Draws:
    """The same draws with an order of `steps` steps at least, of which those that came last are for no training."""
    order = draws.order
    if order is None or order.shape[1] >= steps:
        return draws
    rest = order.new_zeros(len(order), steps - order.shape[1], order.shape[2])
    return draws._replace(order=torch.cat([order, rest], 1))


def cast_draws(draws: Draws, dtype: torch.dtype, device: torch.device | None = None) -> Draws:
    """The same draws with noise in `dtype`, and all of them on `device` (None: where they are)."""
    noise = {name: _cast(tensor, dtype, device) for name, tensor in draws.noise.items()}
    loss = LossNoise(*(None if tensor is None else _cast(tensor, dtype, device) for tensor in draws.loss))
    return Draws(noise, None if draws.order is None else draws.order.to(device, draws.order.dtype), loss)


def _nothing(*shape: int) -> Tensor:
    """Zeros that share one number."""
    return torch.zeros(()).expand(shape)


def _seeds(n_tasks: int, generator: torch.Generator) -> Tensor:
    """A seed for each task. The generator stays as it is: only few models look at them."""
    apart = torch.Generator(generator.device)
    apart.set_state(generator.get_state())
    return torch.randint(2**62, (n_tasks,), generator=apart, device=generator.device)


def _cast(tensor: Tensor, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    dtype = dtype if tensor.is_floating_point() else tensor.dtype
    if tensor.dim() and tensor.numel() and not any(tensor.stride()):  # what shares one number goes on doing so
        return tensor[(0,) * tensor.dim()].to(device, dtype).expand(tensor.shape)
    return tensor.to(device, dtype)
