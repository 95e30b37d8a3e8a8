"""What enters the inner loss, in plain sentences that are computed from its numbers."""

from __future__ import annotations

from metaopt.policies.reading import PolicyReading
from metaopt.report.numbers import compact

ALIKE = 1.25
"""Within that factor rates count as about equal."""


def loss_in_words(reading: PolicyReading) -> list[str]:
    """How much of label smoothing, dropout and input noise there is; nothing of what is switched off."""
    sentences = []
    smoothing, noise = (reading.numbers.get(name) for name in ("label_smoothing", "input_noise"))
    if smoothing is not None:
        sentences.append(
            f"Label smoothing{_fixed(reading, 'label_smoothing')} is {compact(smoothing)}: so much of each target is "
            "spread evenly over the task's classes while training."
        )
    sentences += _dropout(reading)
    if noise is not None:
        sentences.append(
            f"Input noise{_fixed(reading, 'input_noise')} has standard deviation {compact(noise)} while training."
        )
    return sentences


def _dropout(reading: PolicyReading) -> list[str]:
    rates = {name.removesuffix(".weight"): float(rate) for name, rate in reading.strengths.get("dropout", {}).items()}
    if not rates:
        return []
    fixed = _fixed(reading, "dropout")
    high, low = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    if rates[high] == rates[low]:
        where = f"before {high}" if len(rates) == 1 else "before all layers but the first"
        return [f"Gaussian dropout{fixed} {where} has rate {compact(rates[high])}."]
    if rates[high] < ALIKE * rates[low]:
        both = f"{compact(rates[low], 2)} to {compact(rates[high], 2)}"
        return [f"Gaussian dropout{fixed} has about the same rate before all layers but the first: {both}."]
    return [
        f"Gaussian dropout{fixed} is strongest before {high} (rate {compact(rates[high])}) and weakest before {low} "
        f"({compact(rates[low])})."
    ]


def _fixed(reading: PolicyReading, quantity: str) -> str:
    return "" if quantity in reading.learned else " (fixed, not learned)"
