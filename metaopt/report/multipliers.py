"""What an adaptive policy does to its strengths while it trains: over the steps, by role, and from task to task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from metaopt.policies.reading import PolicyReading
from metaopt.report import style
from metaopt.report.numbers import compact

NAMES = {"lr": "learning rate", "l2": "L2 strength"}
ALIKE = 1.25
"""Within that factor multipliers count as about equal."""


def multipliers_figure(reading: PolicyReading) -> Figure | None:
    """What each strength is multiplied with against the inner step: a line for each role, and a band over the tasks.

    Args:
        reading: what the policy has learned, with its multipliers.

    Returns:
        A figure with one axes for each quantity; None where there are no multipliers. Lines are medians over the tasks,
        bands hold the middle four fifths of them.
    """
    if not reading.multipliers:
        return None
    figure = style.new_figure(7.2, 3.6 * len(reading.multipliers))
    for i, (quantity, roles) in enumerate(reading.multipliers.items()):
        axes = figure.add_subplot(len(reading.multipliers), 1, i + 1)
        colours = [colormaps["viridis"](depth) for depth in np.linspace(0.0, 0.88, len(roles))]
        ends, low, high = [], 1.0, 1.0
        for (role, factors), colour in zip(roles.items(), colours, strict=True):
            bottom, middle, top = np.quantile(factors, (0.1, 0.5, 0.9), axis=0)
            steps = np.arange(len(middle))
            axes.fill_between(steps, bottom, top, color=colour, alpha=0.15, linewidth=0)
            axes.plot(steps, middle, color=colour, linewidth=2.0, label=role)
            ends.append(style.End(float(steps[-1]), float(middle[-1]), style.label(role), colour))
            low, high = min(low, float(bottom.min())), max(high, float(top.max()))
        axes.axhline(1.0, color=style.GREY, linewidth=0.9, linestyle=":", zorder=0, label="_one")
        style.dress(axes, f"What the {NAMES.get(quantity, quantity)} is multiplied with", "inner step", "factor")
        style.integer_ticks(axes)
        style.logarithmic(axes, "y", low / 1.2, high * 1.2)
        style.end_labels(axes, ends)
    return figure


def multipliers_in_words(multipliers: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """How the strengths move over the steps, where they differ by role, and how far tasks differ.

    Args:
        multipliers: by quantity and role, [tasks, horizon].

    Returns:
        Two sentences or so for each quantity; none without multipliers.
    """
    sentences = []
    for quantity, roles in multipliers.items():
        name = NAMES.get(quantity, quantity)
        logs = {role: np.log(factors) for role, factors in roles.items()}
        whole = np.exp(np.mean([of_role.mean(0) for of_role in logs.values()], axis=0))
        peak = int(np.argmax(whole))
        sentences.append(
            f"A network multiplies the {name} at each step by what training looks like: on these tasks with "
            f"{compact(float(whole[0]))} at the first step, {compact(float(whole[-1]))} at the last"
            + (f", at most {compact(float(whole[peak]))} at step {peak}" if peak not in (0, len(whole) - 1) else "")
            + " (geometric means)."
        )
        levels = {role: float(np.exp(of_role.mean())) for role, of_role in logs.items()}
        high, low = max(levels, key=levels.__getitem__), min(levels, key=levels.__getitem__)
        if levels[high] > ALIKE * levels[low]:
            sentences.append(
                f"By role it is highest for {high} ({compact(levels[high])}) and lowest for {low} "
                f"({compact(levels[low])})."
            )
        tasks = np.exp(np.mean([of_role.mean(1) for of_role in logs.values()], axis=0))
        bottom, top = (float(np.quantile(tasks, q)) for q in (0.1, 0.9))
        sentences.append(
            f"Tasks differ: over a whole training the mean factor is {compact(bottom)} to {compact(top)} on the middle "
            "four fifths of them."
            if top > ALIKE * bottom
            else f"From task to task the mean factor hardly differs ({compact(bottom)} to {compact(top)})."
        )
    return sentences
