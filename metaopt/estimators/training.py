"""Training networks with a policy, side by side; nothing here knows of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.inner.draws import Draws, cast_draws, draw, take_draws, task_dims
from metaopt.inner.unroll import training
from metaopt.models.model import Model
from metaopt.models.objective import objective, weighted_loss
from metaopt.policies.policy import Policy
from metaopt.policies.progressive import PARTS, SHORTEST
from metaopt.policies.rule import LossNoise
from metaopt.trees import stacked
from metaopt.types import CPU, Batch, Kind, Params


class Trained(NamedTuple):
    """Networks after training.

    Attributes:
        weights: [networks, *shape] each, on the CPU; those that diverged are not among them.
        losses: the support loss that each step saw, mean over these networks, [steps].
        diverged: number of networks that were left out, because their loss or weights were not finite.
    """

    weights: Params
    losses: Tensor
    diverged: int


def train(
    policy: Policy,
    model: Model,
    kind: Kind,
    support: Batch,
    steps: int,
    batch_size: int,
    seeds: Sequence[int],
    device: torch.device = CPU,
    l2: float = 1.0,
    weights: Tensor | None = None,
) -> Trained:
    """Trains a network for each seed on the same table.

    Args:
        policy: where to start and how to step.
        model: the network.
        kind: of the task.
        support: the table, [rows, inputs] and class indices [rows] or values [rows, outputs].
        steps: number of steps.
        batch_size: rows in a minibatch; more than there are means all of them.
        seeds: of each network's initialisation and minibatches. A network does not depend on the others' seeds.
        device: where to train.
        l2: what the policy's L2 strengths are multiplied with.
        weights: of the rows, positive, [rows]; a minibatch's loss is the mean by weight. None: all the same.

    Returns:
        The networks whose training has not diverged.
    """
    loss = objective(model, kind).loss if weights is None else weighted_loss(model.apply, kind)
    if weights is not None:
        targets = support.y.reshape(len(support.y), -1).to(weights.dtype)
        support = Batch(support.x, torch.cat([targets, weights[:, None]], dim=1))
    rows = len(support.x)
    policy = policy.lasting(steps).to(device)
    weaker = l2 != 1.0 and policy.settings.l2.mode != "off"
    factors = {"l2": torch.tensor(l2, device=device)} if weaker else {}
    draws = cast_draws(_draws(policy, model, steps, batch_size, rows, seeds), torch.float32, device)
    table = Batch(support.x.to(device), support.y.to(device))

    def one(noise: Params, order: Tensor | None, loss_noise: LossNoise) -> tuple[Params, Tensor]:
        start, losses = policy(noise, values=policy.scaled(factors)), []
        params = start.params
        for now in training(start, loss, table, order, steps, loss_noise):
            params = now.params
            losses.append(now.support_loss)
        return params, torch.stack(losses[1:])

    with torch.no_grad():
        found, losses = _side_by_side(policy, one, draws)
    found, losses = {name: tensor.cpu() for name, tensor in found.items()}, losses.cpu()
    finite = [losses, *found.values()]
    sound = torch.stack([tensor.flatten(1).isfinite().all(1) for tensor in finite]).all(0)
    kept = {name: tensor[sound].clone() for name, tensor in found.items()}
    return Trained(kept, losses[sound].mean(0), int((~sound).sum()))


def _side_by_side(policy: Policy, one: Callable[..., tuple[Params, Tensor]], draws: Draws) -> tuple[Params, Tensor]:
    if policy.settings.optimizer == "metaopt":
        return torch.func.vmap(one, in_dims=task_dims(draws))(*draws)
    # The memory of torch's own optimizers is in objects, which vmap does not see.
    apart = [one(*take_draws(draws, i)) for i in range(len(next(iter(draws.noise.values()))))]
    return stacked([weights for weights, _ in apart]), torch.stack([losses for _, losses in apart])


def _draws(policy: Policy, model: Model, steps: int, batch_size: int, rows: int, seeds: Sequence[int]) -> Draws:
    """The randomness of each network, from a generator of its own."""
    # Too few rows for parts, or steps for each part to have some, are gone through in epochs.
    progressive = policy.progressive and rows >= PARTS and steps >= SHORTEST
    noisy = policy.settings.draws_noise()
    each = [
        draw(model.shapes, 1, steps, batch_size, rows, torch.Generator().manual_seed(seed), noisy, progressive)
        for seed in seeds
    ]
    noise = {name: torch.cat([draws.noise[name] for draws in each]) for name in model.shapes}
    orders = [draws.order for draws in each if draws.order is not None]
    banks = [draws.loss.bank for draws in each if draws.loss.bank is not None]
    return Draws(noise, torch.cat(orders) if orders else None, LossNoise(torch.cat(banks) if banks else None))
