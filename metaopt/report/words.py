"""What a policy has learned, in plain sentences that are computed from its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metaopt.policies.reading import PolicyReading
from metaopt.report.headline import listed
from metaopt.report.loss_words import loss_in_words
from metaopt.report.multipliers import multipliers_in_words
from metaopt.report.numbers import compact
from metaopt.report.schedule_words import schedule_in_words

OFF_BELOW = 1e-6
"""A strength of L2 or pull that is lower than that changes nothing."""
ALIKE = 1.25
"""Within that factor values count as about equal."""
MOST_NAMED = 6


class Level(NamedTuple):
    """A strength of one parameter tensor or layer.

    Attributes:
        name: of the tensor or layer.
        value: geometric mean over its entries that are positive and finite; 0 without any.
    """

    name: str
    value: float


def reading_in_words(reading: PolicyReading, roles: Mapping[str, str]) -> list[str]:
    """What was chosen, which layers learn fast, what is regularised and enters the loss, the schedule, the start.

    Args:
        reading: what the policy has learned.
        roles: the role of each parameter tensor, such as "first.weight"; may be empty.

    Returns:
        Sentences, only about quantities that the policy has.
    """
    sentences = _mixed(reading) + _rates(reading, roles)
    for quantity, words in (("l2", "L2 regularisation"), ("pull", "The pull towards the initialisation")):
        sentences += _regularisation(reading, quantity, words)
    sentences += loss_in_words(reading)
    sentences += schedule_in_words(reading.schedule)
    sentences += multipliers_in_words(reading.multipliers)
    sentences += _momentum(reading)
    sentences += _initial_scale(reading)
    if reading.matrices:
        count = len(reading.matrices)
        noun = "parameter tensor" if count == 1 else "parameter tensors"
        sentences.append(f"Gradients of {count} {noun} are multiplied with learned matrices before each step.")
    return sentences


def geometric_mean(values: np.ndarray) -> float:
    """Over the entries that are positive and finite; 0 where there are none."""
    positive = _positive(values)
    return float(np.exp(np.log(positive).mean())) if len(positive) else 0.0


def levels(strengths: Mapping[str, np.ndarray]) -> list[Level]:
    """The geometric mean of each parameter tensor, in the model's order."""
    return [Level(name, geometric_mean(values)) for name, values in strengths.items()]


def grouped(strengths: Mapping[str, np.ndarray], group_of: Mapping[str, str]) -> list[Level]:
    """The geometric mean over all entries of the tensors of each group, in the order in which groups come."""
    groups: dict[str, list[np.ndarray]] = {}
    for name, values in strengths.items():
        groups.setdefault(group_of[name], []).append(np.asarray(values).reshape(-1))
    return [Level(name, geometric_mean(np.concatenate(parts))) for name, parts in groups.items()]


def shared_value(strengths: Mapping[str, np.ndarray]) -> float | None:
    """The one value that serves all tensors; None where they differ."""
    values = [np.asarray(each) for each in strengths.values()]
    same = all(each.ndim == 0 and each == values[0] for each in values)
    return float(values[0]) if same else None


def _mixed(reading: PolicyReading) -> list[str]:
    """What was chosen, and how clearly."""
    sentences = []
    for what, weights in reading.mixed.items():
        ranked = sorted(weights, key=lambda name: -weights[name])
        shares = listed([f"{name} {100 * weights[name]:.1f} %" for name in ranked])
        if reading.chosen:
            sentences.append(f"The {what} is {ranked[0]}, chosen from a learned mixture with the weights {shares}.")
        else:
            sentences.append(f"The {what} is a learned mixture with the weights {shares}.")
    return sentences


def _rates(reading: PolicyReading, roles: Mapping[str, str]) -> list[str]:
    rates = reading.strengths.get("lr")
    if not rates:
        return []
    fixed = _fixed(reading, "lr")
    value = shared_value(rates)
    if value is not None:
        return [f"One learning rate{fixed} serves all layers: {compact(value)}."]
    layers = grouped(rates, {name: name.rpartition(".")[0] or name for name in rates})
    sentences = _compared("Learning rates", "learns", layers, fixed) if len(layers) > 1 else []
    if roles and set(rates) <= set(roles):
        positions = grouped(rates, {name: roles[name].partition(".")[0] for name in rates})
        if 1 < len(positions) < len(layers):
            sentences.append(f"By position in the network the rates are {_valued(positions)} (geometric means).")
    return sentences + _weights_and_biases(rates) + _spread(rates)


def _compared(subject: str, verb: str, layers: Sequence[Level], fixed: str) -> list[str]:
    used = [layer for layer in layers if layer.value > 0]
    if not used:
        return [f"{subject}{fixed} are 0 everywhere."]
    high, low = max(used, key=lambda level: level.value), min(used, key=lambda level: level.value)
    if high.value < ALIKE * low.value:
        return [f"{subject}{fixed} are about the same in all layers: {_range(low.value, high.value)}."]
    ratio = _times(high.value / low.value)
    return [
        f"{subject}{fixed} differ by layer: {high.name} {verb} fastest ({compact(high.value)}, the geometric mean of "
        f"its entries), {ratio} times as fast as {low.name} ({compact(low.value)}), which is the slowest."
    ]


def _weights_and_biases(rates: Mapping[str, np.ndarray]) -> list[str]:
    """Over the layers that have both, since layers differ more than what is within one."""
    values = dict(levels(rates))
    layers = [name.removesuffix(".weight") for name in values if name.endswith(".weight")]
    pairs = [(values[f"{layer}.weight"], values.get(f"{layer}.bias", 0.0)) for layer in layers]
    logs = [math.log(bias / weight) for weight, bias in pairs if weight > 0 and bias > 0]
    if not logs:
        return []
    ratio = math.exp(sum(logs) / len(logs))
    if max(ratio, 1 / ratio) < ALIKE:
        return ["Within a layer the weight and the bias learn about equally fast."]
    fast, slow = ("bias", "weight") if ratio > 1 else ("weight", "bias")
    over = f", in the geometric mean over {len(logs)} layers" if len(logs) > 1 else ""
    return [f"Within a layer the {fast} learns {_times(max(ratio, 1 / ratio))} times as fast as the {slow}{over}."]


def _spread(rates: Mapping[str, np.ndarray]) -> list[str]:
    """How far rates differ within a tensor: the ratio of the quartiles."""
    ratios = {}
    for name, values in rates.items():
        positive = _positive(values)
        if len(positive) > 1:
            low, high = np.quantile(positive, [0.25, 0.75])
            ratios[name] = float(high / low)
    if not ratios:
        return []
    wide, narrow = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
    if ratios[wide] < 1.05:
        return ["Within a tensor nearly all entries have the same rate."]
    sentence = f"Within a tensor rates differ most in {wide}: the middle half of its entries spans a factor of "
    sentence += _times(ratios[wide])
    return [f"{sentence}; least in {narrow} ({_times(ratios[narrow])})." if len(ratios) > 1 else f"{sentence}."]


def _regularisation(reading: PolicyReading, quantity: str, subject: str) -> list[str]:
    strengths = reading.strengths.get(quantity)
    if not strengths:
        return []
    fixed = _fixed(reading, quantity)
    value = shared_value(strengths)
    if value is not None:
        if value < OFF_BELOW:
            return [f"{subject}{fixed} is off for all layers: {compact(value)}, below {OFF_BELOW:g}."]
        return [f"{subject}{fixed} has one strength for all layers: {compact(value)}."]
    tensors = levels(strengths)
    on = sorted((level for level in tensors if level.value >= OFF_BELOW), key=lambda level: -level.value)
    off = [level.name for level in tensors if level.value < OFF_BELOW]
    if not on:
        return [f"{subject}{fixed} is off: its geometric mean is below {OFF_BELOW:g} in every parameter tensor."]
    top = on[0]
    sentence = f"{subject}{fixed} is strongest on {top.name} ({compact(top.value)})"
    if len(on) > 1:
        weakest = on[-1]
        ratio = f"{_times(top.value / weakest.value)} times its strength on {weakest.name} ({compact(weakest.value)})"
        sentence += f", {ratio}" if top.value >= ALIKE * weakest.value else " and about the same on the others"
    if off:
        sentence += f"; it is off (below {OFF_BELOW:g}) on {_named(off)}"
    return [f"{sentence}."]


def _momentum(reading: PolicyReading) -> list[str]:
    mu = reading.momentum
    if mu is None:
        return []
    steps = f", so a step averages over about {compact(1 / (1 - mu), 2)} gradients" if 0 < mu < 1 else ""
    return [f"Momentum{_fixed(reading, 'momentum')} is {compact(mu)}{steps}."]


def _initial_scale(reading: PolicyReading) -> list[str]:
    scales = reading.strengths.get("init_std")
    if not scales:
        return []
    value = shared_value(scales)
    if value is not None:
        return [f"Initial parameters are drawn with {compact(value, 2)} times torch's standard deviation."]
    tensors = levels(scales)
    wide, narrow = max(tensors, key=lambda level: level.value), min(tensors, key=lambda level: level.value)
    if wide.value < ALIKE * narrow.value:
        amount = _range(narrow.value, wide.value)
        return [f"Initial parameters are drawn with {amount} times torch's standard deviation in all layers."]
    return [
        f"Initial parameters are drawn widest in {wide.name}, with {compact(wide.value, 2)} times torch's standard "
        f"deviation, and narrowest in {narrow.name}, with {compact(narrow.value, 2)} times."
    ]


def _fixed(reading: PolicyReading, quantity: str) -> str:
    return "" if quantity in reading.learned else " (fixed, not learned)"


def _positive(values: np.ndarray) -> np.ndarray:
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    return flat[(flat > 0) & np.isfinite(flat)]


def _times(ratio: float) -> str:
    return compact(ratio, 2) if ratio < 100 else f"{ratio:.0f}" if ratio < 1e4 else compact(ratio, 2)


def _range(low: float, high: float) -> str:
    texts = [compact(low, 2), compact(high, 2)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def _valued(each: Sequence[Level]) -> str:
    return listed([f"{level.name} {compact(level.value, 2)}" for level in each])


def _named(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED:
        return listed(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
