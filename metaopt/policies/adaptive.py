"""Strengths that adapt to the task: a small network reads statistics of the training and sets each step's strengths.

In the manner of ALFA (Baik et al., "Meta-Learning with Adaptive Hyperparameters", NeurIPS 2020), but with one network
for all tensors, which knows a tensor by its role and shape, so that it fits any model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from metaopt.models.roles import PARTS, POSITIONS
from metaopt.policies.progressive import joins_at
from metaopt.policies.rule import Site, State, Strengths, UpdateRule
from metaopt.policies.settings import PolicySettings
from metaopt.types import Params

WIDTH = 24
MULTIPLIED = ("lr", "l2")
LARGEST = 2.5
"""Largest logarithm of a multiplier: whatever the statistics, a strength changes by less than e^2.5, some 12 times."""
FLOOR = 1e-4
"""Sizes far below it are as good as zero: the logarithm has no infinite derivative there."""
FAST, SLOW = 0.7, 0.95
"""Decays of the running means of the loss's logarithm."""
AGREEING = 0.8
"""Decay of the running means of how gradients of successive steps agree."""
LOSSES = ("first", "fast", "slow")
UNSEEN_LOSSES = ("last", "parts", "unseen", "gap", "gaps")
"""What is kept of the losses: their logarithms at the beginning and running means; and of those on new examples."""
STATISTICS = 17
"""Statistics of a tensor's training, besides what is known of the tensor beforehand."""
UNSEEN = 3
"""Statistics of the losses on examples that are new, where there are such."""
KNOWN = len(POSITIONS) + len(PARTS) + 2


def adaptive_numbers(settings: PolicySettings, generator: torch.Generator | None) -> Params:
    """The network's weights at first: it multiplies all strengths by nearly 1.

    Weights are stored such that the network divides them by the root of their fan-in, which makes one outer learning
    rate fit both them and the logarithms of strengths.
    """

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    inputs, outputs = STATISTICS + KNOWN, len(MULTIPLIED)
    if settings.order == "progressive":
        inputs += UNSEEN
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
    cosine of gradient and parameter; the share of gradients that are zero (of inputs that a padded task does not have,
    and of units that are off); how far the gradients of successive steps agree, in this tensor and in all; the
    support loss, its size at the beginning and its trends over a few and over many steps; the position in the horizon
    and its length; role, size and fan-in. Beyond the horizon the position stays at its end. Where examples join
    training one part after the other, it also reads how much higher the loss on each new part was than on those before.

    Losses on new parts tell best how far a task generalises. Without them, how gradients of successive minibatches
    agree says a little: where examples are learned by heart they do so less ("stiffness"; Fort et al., 2019).

    Args:
        strengths: what is multiplied; L2 only where it is not off.
        own: see `adaptive_numbers`.
        site: where the rule is at work.
        plain: the step that is taken.
    """
    used = [quantity for quantity in MULTIPLIED if getattr(strengths, quantity) is not None]

    def init(params: Params) -> State:
        zeros = next(iter(params.values())).new_zeros(len(params))
        return {
            "plain": plain(strengths).init(params),
            "before": {name: torch.zeros_like(p) for name, p in params.items()},
            "squares": zeros,
            "moved": zeros,
            "agreement": {"tensors": zeros, "all": zeros[0]},
            "loss": dict.fromkeys((*LOSSES, *(UNSEEN_LOSSES if site.progressive else ())), zeros[0]),
            "multipliers": dict.fromkeys(used, zeros),
        }

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        if loss is None:
            raise ValueError("an adaptive policy reads the loss of each step, but none came; give it with the step")
        features, kept = _read(params, grads, state, step, loss, site)
        factors = _network(features, own)
        multipliers = {quantity: factors[:, MULTIPLIED.index(quantity)] for quantity in used}
        old, before = params, grads
        if site.in_place:  # gradients are the caller's to write over, once the step is taken
            old = {name: p.clone() for name, p in params.items()}
            before = {name: state["before"][name].copy_(g) for name, g in grads.items()}
        step_with = plain(_multiplied(strengths, multipliers, list(params), site.in_place))
        new, inner = step_with.update(params, grads, state["plain"], step, loss)
        moves = {name: torch.sub(new[name], p, out=p if site.in_place else None) for name, p in old.items()}
        kept |= {"plain": inner, "before": before, "moved": _sums(moves, moves), "multipliers": multipliers}
        return new, {kind: kept[kind] for kind in state}

    def multipliers(state: State) -> dict[str, Params]:
        return {q: dict(zip(site.stds, of.unbind(), strict=True)) for q, of in state["multipliers"].items()}

    return UpdateRule(init, update, looks_at_all=True, reads_loss=True, multipliers=multipliers)


def _read(
    params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor, site: Site
) -> tuple[Tensor, State]:
    """What the network reads at a step, [tensors, features], and what of it is kept for the next step."""
    numbers = _constants([p.numel() for p in params.values()], loss)
    floors = numbers * FLOOR**2
    squares, lengths = _sums(grads, grads), _sums(params, params)
    agreement = _agreement(_sums(grads, state["before"]), squares, state["squares"], floors)
    means = _running(agreement, state["agreement"], step)
    joins = joins_at(step, site.horizon, loss) if site.progressive else None
    seen, losses = _losses(loss, state["loss"], step, joins)
    # The squares of signs add up to how many are not zero, in a third of the time of torch.count_nonzero.
    signs = {name: torch.sign(g.detach()) for name, g in grads.items()}
    of_tensors = [
        _size(squares / numbers),
        _size(lengths / numbers),
        _size(state["moved"] / numbers),
        _sums(grads, params) * torch.rsqrt((squares + floors) * (lengths + floors)),
        agreement["tensors"],
        means["tensors"],
        1 - _sums(signs, signs) / numbers,
    ]
    length = torch.log(torch.as_tensor(site.horizon, device=loss.device).to(loss.dtype)) / 3 - 1
    position = position_in(step, site.horizon, loss)
    of_all = torch.stack([agreement["all"], means["all"], *seen, *position, length])
    known = torch.stack([known_beforehand(name, p, site) for name, p in params.items()])
    features = torch.cat([torch.stack(of_tensors, -1), of_all.expand(len(params), -1), known], -1)
    return features, {"squares": squares, "agreement": means, "loss": losses}


def _multiplied(strengths: Strengths, multipliers: Params, names: Sequence[str], in_place: bool) -> Strengths:
    """The strengths of each tensor times its multipliers, [tensors] by quantity.

    Where nothing is differentiated, and nothing waits for them, multipliers become floats: a step is faster with those.
    """
    changed = {}
    for quantity, factors in multipliers.items():
        floats = in_place and factors.device.type == "cpu"
        each = zip(names, factors.tolist() if floats else factors.unbind(), strict=True)
        changed[quantity] = {name: factor * getattr(strengths, quantity)[name] for name, factor in each}
    return strengths._replace(**changed)


def _network(features: Tensor, own: Params) -> Tensor:
    """Multipliers of each tensor's strengths, [tensors, quantities], from what is read of it, [tensors, features]."""
    root = math.sqrt(features.shape[-1])
    hidden = torch.tanh(features @ own["into"] / root + own["into_bias"])
    hidden = torch.tanh(hidden @ own["between"] / math.sqrt(WIDTH) + own["between_bias"])
    out = hidden @ own["out"] / math.sqrt(WIDTH) + features @ own["straight"] / root
    return (LARGEST * torch.tanh(out / LARGEST)).exp()


def _sums(left: Params, right: Params) -> Tensor:
    """The sum of the products of two tensors' entries, for each tensor, [tensors]."""
    return torch.stack([torch.dot(left[name].reshape(-1), right[name].reshape(-1)) for name in left])


def _size(mean_square: Tensor) -> Tensor:
    """The logarithm of a root mean square, of the order of 1."""
    return 0.5 * torch.log(mean_square + FLOOR**2) / 4 + 1


def _agreement(products: Tensor, now: Tensor, then: Tensor, floors: Tensor) -> dict[str, Tensor]:
    """Cosines of the gradients of two successive steps, of each tensor and of all together.

    Args:
        products: of the two gradients, [tensors].
        now, then: their squares, [tensors].
        floors: what is as good as zero, [tensors].
    """
    whole = products.sum() * torch.rsqrt((now.sum() + floors.sum()) * (then.sum() + floors.sum()))
    return {"tensors": products * torch.rsqrt((now + floors) * (then + floors)), "all": whole}


def _running(now: Mapping[str, Tensor], means: Mapping[str, Tensor], step: int | Tensor) -> dict[str, Tensor]:
    """Running means that begin at the second step, the first that has a step before it."""
    begins = torch.as_tensor(step, device=now["all"].device) < 2
    share = torch.where(begins, 1.0, 1 - AGREEING).to(now["all"].dtype)
    return {kind: mean + share * (now[kind] - mean) for kind, mean in means.items()}


def _losses(
    loss: Tensor, before: Mapping[str, Tensor], step: int | Tensor, joins: Tensor | None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What is read of the loss, and what is kept of it for the next step.

    Args:
        loss: of the step.
        before: what was kept, by name.
        step: from 0.
        joins: whether the step is of new examples alone, whose loss says how what was learned holds for others; None:
            no step is.
    """
    found = torch.log(loss.clamp(min=0) + FLOOR)
    now = found if joins is None else torch.where(joins, before["last"], found)
    begins = torch.as_tensor(step, device=loss.device) == 0
    first, fast, slow = (torch.where(begins, now, before[kind]) for kind in LOSSES)
    seen = [now / 3, first / 3, now - first, now - fast, now - slow]
    kept = {"first": first, "fast": FAST * fast + (1 - FAST) * now, "slow": SLOW * slow + (1 - SLOW) * now}
    if joins is None:
        return seen, kept
    gap, share = found - before["last"], 1 / (before["parts"] + 1)
    unseen = {
        "last": now,
        "parts": before["parts"] + joins.to(loss.dtype),
        "unseen": torch.where(joins, found, before["unseen"]),
        "gap": torch.where(joins, gap, before["gap"]),
        "gaps": torch.where(joins, before["gaps"] + share * (gap - before["gaps"]), before["gaps"]),
    }
    return [*seen, unseen["unseen"] / 3, unseen["gap"], unseen["gaps"]], kept | unseen


def position_in(step: int | Tensor, horizon: int | Tensor, like: Tensor) -> list[Tensor]:
    """How far training is: along a line, and at its very beginning."""
    at = torch.as_tensor(step, device=like.device).to(like.dtype)
    return [2 * (at / horizon).clamp(max=1) - 1, torch.exp(-at / 4)]


def known_beforehand(name: str, p: Tensor, site: Site) -> Tensor:
    """Role, one entry for each position and part, and shape."""
    position, _, part = site.roles.get(name, "").partition(".")
    flags = [float(position == other) for other in POSITIONS] + [float(part == other) for other in PARTS]
    fan_in = p[0].numel() if p.dim() > 1 else 1
    return _constants([*flags, math.log(p.numel()) / 5 - 1, math.log(fan_in) / 3 - 1], p)


def _constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers of the type and at the place of another tensor."""
    return torch.stack([torch.full((), value, dtype=like.dtype, device=like.device) for value in values])
