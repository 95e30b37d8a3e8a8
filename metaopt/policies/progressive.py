"""Examples that join training one part after the other, so that the first loss on each part tells what was learned.

Progressive validation (A. Blum, A. Kalai, J. Langford, "Beating the hold-out", COLT 1999): what has not been trained on
is a test set until it is. A rule that sees these losses knows, while it trains, how far the task can be generalised.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARTS = 4
"""Parts of the support set, of equal size."""
PACE = 6
"""A part joins after each sixth of the horizon, so that all train together in its second half."""
SHORTEST = 2 * PACE
"""Steps of the shortest training in which each part has steps of its own."""


def part_at(step: int, horizon: int) -> int:
    """The last part that has joined by a step, from 0."""
    return min(PARTS - 1, PACE * step // horizon)


def joins_at(step: int | Tensor, horizon: int | Tensor, like: Tensor) -> Tensor:
    """Whether a step trains on a part that is new, and on that alone; a scalar of bools.

    Args:
        step: from 0.
        horizon: number of steps.
        like: a tensor on the device of training.
    """
    now = torch.as_tensor(step, device=like.device)
    then = (now - 1).clamp(min=0)
    place, before = (torch.div(PACE * at, horizon, rounding_mode="floor").clamp(max=PARTS - 1) for at in (now, then))
    return place > before


def progressive_order(
    n_tasks: int, horizon: int, batch_size: int, n_support: int, generator: torch.Generator
) -> Tensor:
    """Which examples make the minibatch of each step, int64 [tasks, horizon, batch_size].

    The support set joins in parts, in random order. A step in which a part joins is of its examples alone; any other is
    of all that have joined. An example may come several times in a minibatch, the others then equally often, but for
    one time.
    """
    joined = torch.rand(n_tasks, n_support, generator=generator).argsort(-1)
    ends = [-(-n_support * (part + 1) // PARTS) for part in range(PARTS)]
    tiles = torch.arange(batch_size)
    steps = []
    for step in range(horizon):
        part = part_at(step, horizon)
        first = ends[part - 1] if step > 0 and part > part_at(step - 1, horizon) else 0
        among = joined[:, first : ends[part]]
        mixed = among.gather(1, torch.rand(among.shape, generator=generator).argsort(-1))
        steps.append(mixed[:, tiles % among.shape[1]])
    return torch.stack(steps, 1)
