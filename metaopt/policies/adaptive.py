"""Strengths that adapt to the task: a small network reads statistics of the training and sets each step's strengths.

In the manner of ALFA (Baik et al., "Meta-Learning with Adaptive Hyperparameters", NeurIPS 2020), but with one network
for all tensors, which knows a tensor by its role and shape, so that it fits any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.models.roles import PARTS, POSITIONS
from metaopt.policies.rule import Site, State, Strengths, UpdateRule
from metaopt.types import Params

WIDTH = 24
MULTIPLIED = ("lr", "l2")
LARGEST = 4.0
"""Largest logarithm of a multiplier: whatever the statistics, a strength changes by less than e⁴, some 55 times."""
FLOOR = 1e-4
"""Sizes far below it are as good as zero: the logarithm has no infinite derivative there."""
FAST, SLOW = 0.7, 0.95
"""Decays of the running means of the loss's logarithm."""
AGREEING = 0.8
"""Decay of the running means of how gradients of successive steps agree."""
STATISTICS = 15
"""Statistics of a tensor's training, besides what is known of the tensor beforehand."""
EVERYWHERE = "*"
KNOWN = len(POSITIONS) + len(PARTS) + 2


def adaptive_numbers(generator: torch.Generator | None) -> Params:
    """The network's weights at first: it multiplies all strengths by nearly 1.

    Weights are stored such that the network divides them by the root of their fan-in, which makes one outer learning
    rate fit both them and the logarithms of strengths.
    """

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    inputs, outputs = STATISTICS + KNOWN, len(MULTIPLIED)
    return {
        "into": drawn(inputs, WIDTH),
        "into_bias": drawn(WIDTH),
        "between": drawn(WIDTH, WIDTH),
        "between_bias": drawn(WIDTH, scale=0.1),
        "out": drawn(WIDTH, outputs, scale=0.05),
        "straight": drawn(inputs, outputs, scale=0.05),
    }


def adaptive_rule(
    strengths: Strengths, own: Params, site: Site, plain: Callable[[Strengths], UpdateRule]
) -> UpdateRule:
    """The plain step, with the learning rate and the L2 strength of each tensor multiplied at each step by a network.

    What the network reads of a tensor: the sizes (root mean squares) of gradient, parameter and last update; the
    cosine of gradient and parameter; how far the gradients of successive steps agree, in this tensor and in all; the
    support loss, its size at the beginning and its trends over a few and over many steps; the position in the horizon;
    role, size and fan-in. Beyond the horizon the position stays at its end.

    Gradients of successive minibatches agree where there is something to learn that holds for other examples, too, and
    do not where examples are learned by heart ("stiffness"; Fort et al., 2019): the statistic that tells noisy tasks
    from easy ones. Trained on all examples at once, it says nothing of the kind.

    Args:
        strengths: what is multiplied; L2 only where it is not off.
        own: see `adaptive_numbers`.
        site: where the rule is at work.
        plain: the step that is taken.
    """

    used = [quantity for quantity in MULTIPLIED if getattr(strengths, quantity) is not None]

    def init(params: Params) -> State:
        like = next(iter(params.values()))
        zero = like.new_zeros(())
        return {
            "plain": plain(strengths).init(params),
            "before": {name: torch.zeros_like(p) for name, p in params.items()},
            "agreement": dict.fromkeys((*params, EVERYWHERE), zero),
            "moved": dict.fromkeys(params, zero),
            "loss": {"first": zero, "fast": zero, "slow": zero},
            "multipliers": {quantity: dict.fromkeys(params, zero) for quantity in used},
        }

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        if loss is None:
            raise ValueError("an adaptive policy reads the loss of each step, but none came; give it with the step")
        seen, losses = _losses(loss, state["loss"], step)
        position = _position(step, site.horizon, loss)
        agreement = _agreement(grads, state["before"], state["agreement"], step)
        rows = [
            torch.stack(
                [
                    *_sizes(p, grads[name], state["moved"][name]),
                    _cosine(grads[name], p),
                    *agreement.seen[name],
                    *agreement.seen[EVERYWHERE],
                    *seen,
                    *position,
                ]
            )
            for name, p in params.items()
        ]
        known = torch.stack([_known(name, p, site) for name, p in params.items()])
        factors = _network(torch.cat([torch.stack(rows), known], -1), own)
        multipliers = {
            quantity: dict(zip(params, factors[:, MULTIPLIED.index(quantity)].unbind(), strict=True))
            for quantity in used
        }
        changed = {
            quantity: {name: factor * getattr(strengths, quantity)[name] for name, factor in own_factors.items()}
            for quantity, own_factors in multipliers.items()
        }
        new, inner = plain(strengths._replace(**changed)).update(params, grads, state["plain"], step, loss)
        moved = {name: _size(new[name] - p) for name, p in params.items()}
        kept = {
            "before": grads,
            "agreement": agreement.kept,
            "moved": moved,
            "loss": losses,
            "multipliers": multipliers,
        }
        return new, {"plain": inner, **kept}

    return UpdateRule(init, update, reads_loss=True, multipliers=lambda state: state["multipliers"])


def _network(features: Tensor, own: Params) -> Tensor:
    """Multipliers of each tensor's strengths, [tensors, quantities], from what is read of it, [tensors, features]."""
    root = math.sqrt(features.shape[-1])
    hidden = torch.tanh(features @ own["into"] / root + own["into_bias"])
    hidden = torch.tanh(hidden @ own["between"] / math.sqrt(WIDTH) + own["between_bias"])
    out = hidden @ own["out"] / math.sqrt(WIDTH) + features @ own["straight"] / root
    return (LARGEST * torch.tanh(out / LARGEST)).exp()


def _size(tensor: Tensor) -> Tensor:
    """Half the logarithm of the mean square, which is that of the root mean square, of the order of 1."""
    return 0.5 * torch.log(tensor.square().mean() + FLOOR**2) / 4 + 1


def _sizes(p: Tensor, g: Tensor, moved: Tensor) -> list[Tensor]:
    return [_size(g), _size(p), moved]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    scale = (a.square().sum() + a.numel() * FLOOR**2) * (b.square().sum() + b.numel() * FLOOR**2)
    return (a * b).sum() * torch.rsqrt(scale)


class _Agreement(NamedTuple):
    """How far the gradients of two successive steps agree: their cosines, by tensor and `EVERYWHERE`.

    Attributes:
        seen: the cosine now, and the running mean of the steps so far.
        kept: running means for the next step.
    """

    seen: dict[str, list[Tensor]]
    kept: dict[str, Tensor]


def _agreement(grads: Params, before: Params, means: Mapping[str, Tensor], step: int | Tensor) -> _Agreement:
    products = {name: (g * before[name]).sum() for name, g in grads.items()}
    squares = {name: (g.square().sum(), before[name].square().sum()) for name, g in grads.items()}
    products[EVERYWHERE] = torch.stack(list(products.values())).sum()
    squares[EVERYWHERE] = (
        torch.stack([now for now, _ in squares.values()]).sum(),
        torch.stack([then for _, then in squares.values()]).sum(),
    )
    numbers = {name: g.numel() for name, g in grads.items()}
    numbers[EVERYWHERE] = sum(numbers.values())
    seen, kept = {}, {}
    share = torch.where(torch.as_tensor(step, device=means[EVERYWHERE].device) < 2, 1.0, 1 - AGREEING).to(
        means[EVERYWHERE].dtype
    )
    for name, product in products.items():
        floor = numbers[name] * FLOOR**2
        cosine = product * torch.rsqrt((squares[name][0] + floor) * (squares[name][1] + floor))
        kept[name] = means[name] + share * (cosine - means[name])
        seen[name] = [cosine, kept[name]]
    return _Agreement(seen, kept)


def _losses(loss: Tensor, before: Mapping[str, Tensor], step: int | Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What is read of the loss, and the running means of its logarithm."""
    now = torch.log(loss.clamp(min=0) + FLOOR)
    begins = torch.as_tensor(step, device=loss.device) == 0
    first, fast, slow = (torch.where(begins, now, before[kind]) for kind in ("first", "fast", "slow"))
    seen = [now / 3, first / 3, now - first, now - fast, now - slow]
    kept = {"first": first, "fast": FAST * fast + (1 - FAST) * now, "slow": SLOW * slow + (1 - SLOW) * now}
    return seen, kept


def _position(step: int | Tensor, horizon: int, like: Tensor) -> list[Tensor]:
    """How far training is: along a line, and at its very beginning."""
    at = torch.as_tensor(step, device=like.device).to(like.dtype)
    share = (at / horizon).clamp(max=1)
    return [2 * share - 1, torch.exp(-at / 4)]


def _known(name: str, p: Tensor, site: Site) -> Tensor:
    """Role, one entry for each position and part, and shape."""
    position, _, part = site.roles.get(name, "").partition(".")
    flags = [float(position == other) for other in POSITIONS] + [float(part == other) for other in PARTS]
    fan_in = p[0].numel() if p.dim() > 1 else 1
    return p.new_tensor([*flags, math.log(p.numel()) / 5 - 1, math.log(fan_in) / 3 - 1])
