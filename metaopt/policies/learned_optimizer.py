"""A learned optimizer: a small network says for each parameter where to step and how far, beginning as Adam.

In the manner of Metz et al., "Practical tradeoffs between memory, compute, and performance in learned optimizers"
(2022), with the directions normalised and one size of step per tensor, as in Celo (Moudgil et al., 2025): what is
learned cannot blow up beyond the horizon that it was learned for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metaopt.policies.adaptive import KNOWN, known_beforehand, position_in
from metaopt.policies.rule import Site, State, Strengths, UpdateRule
from metaopt.policies.second_moment import DECAY, FLOOR
from metaopt.policies.settings import PolicySettings
from metaopt.policies.step import at_step, regularised
from metaopt.types import Params

WIDTH = 8
"""Hidden units of either network."""
ROWS = 8
"""What the network reads of a parameter."""
BASE = 2
"""The row that Adam steps along."""
STATISTICS = 4
"""What the network reads of a tensor besides what is known of it beforehand and the position in the training."""
READ = STATISTICS + 3 + KNOWN
FAST, SLOW = 0.5, 0.99
"""Decays of the running means of gradients, where learning starts; between them lies that of Adam, β₁."""
LARGEST = 2.0
"""Largest logarithm of what a tensor's learning rate is multiplied with."""
LONGEST = 2.0
"""Largest root mean square of a tensor's direction."""
PACE = 0.25
"""How fast the networks' weights learn, relative to the logarithms of strengths. Each outer step moves all the weights
of a unit at once, which adds up: at full pace training becomes chaotic before it is any better."""
BLOCK = 2**14
"""Parameters that the network reads at a time: what it makes of them stays in the processor's caches."""


def learned_optimizer_numbers(settings: PolicySettings, generator: torch.Generator | None) -> Params:
    """The networks' weights and the decays at first, with which the steps are nearly those of Adam.

    Weights are stored such that the networks divide them by the root of their fan-in and multiply them with `PACE`,
    which makes one outer learning rate fit both them and the logarithms of strengths.
    """

    del settings

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return scale / PACE * torch.randn(*shape, generator=generator)

    outputs = WIDTH + 1
    return {
        "decays": torch.logit(torch.tensor([FAST, SLOW, DECAY])),
        "into": drawn(ROWS, WIDTH),
        "into_bias": drawn(WIDTH, scale=0.5),
        "out": drawn(WIDTH, 2, scale=0.05),
        "straight": drawn(ROWS, 2, scale=0.05),
        "tensor_into": drawn(READ, WIDTH),
        "tensor_bias": drawn(WIDTH, scale=0.5),
        "tensor_out": drawn(WIDTH, outputs, scale=0.05),
        "tensor_straight": drawn(READ, outputs, scale=0.05),
    }


def learned_optimizer_rule(
    strengths: Strengths, own: Params, site: Site, plain: Callable[[Strengths], UpdateRule]
) -> UpdateRule:
    """Steps along a direction that a network finds for each parameter, of a size that another finds for each tensor.

    With gradient g' of loss, L2 and pull, as in `normalised_step`, elementwise: the network reads g'; its running means
    m over few, some and many steps, apart and divided by √v, where v is the running mean of g'²; √v; and θ. All is
    relative to its root mean square over the tensor, so that the scale of the loss does not matter. It gives d, which
    Adam's m / √v is added to, and a bounded logarithm of the size. The direction's root mean square is kept below 2.

    The second network reads of a tensor: the sizes of the m / √v, which say how much the gradients agree from step to
    step; the size of θ; the position in the horizon, and the logarithm of the step; role, size and fan-in. It gives
    biases for the first, and a factor e⁻² to e² of the learning rate. Beyond the horizon the position stays at its end.
    So the root mean square of a tensor's step is at most 2·e² < 15 times its learning rate, whatever was learned.

    Args:
        strengths: learning rate, L2, pull and schedule mean what they do in `normalised_step`; momentum is the decay of
            the mean over some steps, Adam's β₁. None: that mean is g' itself.
        own: see `learned_optimizer_numbers`.
        site: where the rule is at work.
        plain: not used.
    """
    del plain
    middle = strengths.momentum
    kinds = ("fast", "slow", "square") if middle is None else ("fast", "middle", "slow", "square")

    def init(params: Params) -> State:
        state = {kind: {name: torch.zeros_like(p) for name, p in params.items()} for kind in kinds}
        return state | {"factors": next(iter(params.values())).new_zeros(len(params))}

    def update(
        params: Params, grads: Params, state: State, step: int | Tensor, loss: Tensor | None = None
    ) -> tuple[Params, State]:
        del loss
        like = next(iter(params.values()))
        weights = {name: value if name == "decays" else PACE * value for name, value in own.items()}
        decays: Params = dict(zip(("fast", "slow", "square"), torch.sigmoid(own["decays"]).unbind(), strict=True))
        decays = decays if middle is None else decays | {"middle": _scalar(middle, like)}
        count = _scalar(step, like) + 1
        unbiased = {kind: 1 / (1 - decay**count) for kind, decay in decays.items()}
        new: State = {kind: {} for kind in kinds}
        tensors = {}
        for name, p in params.items():
            g = regularised(name, p, grads[name], strengths.l2, strengths.pull, strengths.anchor)
            for kind in kinds:
                new[kind][name] = torch.lerp(g * g if kind == "square" else g, state[kind][name], decays[kind])
            tensors[name] = _read(p, g, {kind: new[kind][name] for kind in kinds}, unbiased)
        position = _position(step, site.horizon, like)
        known = [
            torch.cat([tensors[name].statistics, position, known_beforehand(name, p, site)])
            for name, p in params.items()
        ]
        biases, factors = _of_tensors(torch.stack(known), weights)
        moved = {}
        for (name, p), bias, factor in zip(params.items(), biases.unbind(), factors.unbind(), strict=True):
            rate = factor * strengths.lr[name]
            rate = rate if strengths.schedule is None else at_step(strengths.schedule[name], step) * rate
            moved[name] = p - rate * _direction(tensors[name], bias, weights).view_as(p)
        return moved, new | {"factors": factors}

    def multipliers(state: State) -> dict[str, Params]:
        return {"lr": dict(zip(site.stds, state["factors"].unbind(), strict=True))}

    return UpdateRule(init, update, looks_at_all=True, multipliers=multipliers)


class _Tensor(NamedTuple):
    """What is read of a parameter tensor.

    Attributes:
        blocks: rows of numbers by parameter, each [rows, block].
        scales: what the rows are multiplied with before anything else, [rows].
        statistics: of the tensor as a whole, [statistics].
    """

    blocks: list[Tensor]
    scales: Tensor
    statistics: Tensor


def _read(p: Tensor, g: Tensor, memory: Params, unbiased: Params) -> _Tensor:
    """What is read of a tensor, of which the rows are still to be multiplied with the scales.

    Args:
        p: the tensor.
        g: its gradient.
        memory: running means after the step, by kind.
        unbiased: what they are multiplied with, by kind.
    """
    sources = {"p": p, "g": g, **memory}
    parts = {kind: source.reshape(-1).split(BLOCK) for kind, source in sources.items()}
    blocks = []
    for i in range(len(parts["p"])):
        part = {kind: found[i] for kind, found in parts.items()}
        middle = part.get("middle", part["g"])
        root = torch.sqrt(part["square"] * unbiased["square"] + FLOOR**2)
        along = (part["fast"] / root, middle / root, part["slow"] / root)
        blocks.append(torch.stack([part["g"], *along, middle, part["slow"], root, part["p"]]))
    one = torch.ones_like(unbiased["square"])
    means = torch.stack([unbiased["fast"], unbiased.get("middle", one), unbiased["slow"]])
    square = sum(((block * block).sum(-1) for block in blocks), start=torch.zeros_like(blocks[0][:, 0])) / p.numel()
    relative = torch.rsqrt(square + FLOOR**2)
    scales = torch.cat([relative[:1], means, relative[4:]])
    sizes = torch.cat([square[1:4] * means.square(), square[-1:]])
    return _Tensor(blocks, scales, torch.log(sizes + 1e-4) / 4 + 1)


def _position(step: int | Tensor, horizon: int | Tensor, like: Tensor) -> Tensor:
    """How far training is, [3]: along a line, at its very beginning, and in the logarithm of the step."""
    at = _scalar(step, like)
    return torch.stack(
        [*position_in(step, horizon, like), torch.log1p(torch.minimum(at, _scalar(horizon, like))) / 3 - 1]
    )


def _of_tensors(known: Tensor, weights: Params) -> tuple[Tensor, Tensor]:
    """Biases of the hidden units, [tensors, hidden], and factors of the rates, [tensors], from [tensors, read]."""
    root = math.sqrt(known.shape[-1])
    hidden = torch.tanh(known @ weights["tensor_into"] / root + weights["tensor_bias"])
    out = hidden @ weights["tensor_out"] / math.sqrt(WIDTH) + known @ weights["tensor_straight"] / root
    return out[:, :-1], (LARGEST * torch.tanh(out[:, -1] / LARGEST)).exp()


def _direction(tensor: _Tensor, biases: Tensor, weights: Params) -> Tensor:
    """The direction of a tensor's parameters, flat, with a root mean square below `LONGEST`."""
    into = torch.cat([weights["into"], weights["straight"]], -1).T / math.sqrt(ROWS)  # [hidden and outputs, rows]
    adam = torch.nn.functional.pad(torch.ones_like(into[:1, :1]), (BASE, ROWS - 1 - BASE, WIDTH, 1))
    into = (into + adam) * tensor.scales
    bias = (weights["into_bias"] + biases)[:, None]
    out = weights["out"].T / math.sqrt(WIDTH)
    parts = []
    for block in tensor.blocks:
        linear = into @ block
        along, size = (linear[WIDTH:] + out @ _squashed(linear[:WIDTH] + bias)).unbind()
        parts.append(along * _squashed(size).exp())
    direction = torch.cat(parts)
    return direction * torch.rsqrt(1 + direction.square().mean() / LONGEST**2)


def _scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """A number as a scalar tensor, of the type and at the place of another tensor."""
    if isinstance(value, Tensor):
        return value.to(like)
    return torch.full((), value, dtype=like.dtype, device=like.device)


def _squashed(x: Tensor) -> Tensor:
    """Between −1 and 1, as tanh is, in a fraction of its time."""
    return x * torch.rsqrt(torch.addcmul(x.new_ones(()), x, x))
