"""After how many trials a search matches the policy, as a distribution over tasks."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.report import style
from metaopt.report.numbers import share
from metaopt.search.account import Account, MethodAccount

REACH = 0.66
"""Height of a bar for all tasks, in rows."""


def match_bins(trials: int) -> list[tuple[int, int]]:
    """Numbers of trials in bins that widen: 1, 2 to 3, 4 to 10, 11 to 30, … up to `trials`.

    Args:
        trials: the most that any search was given; 1 or more.

    Returns:
        First and last number of each bin, both included.
    """
    bins, upper = [(1, 1)], 3
    while bins[-1][1] < trials:
        bins.append((bins[-1][1] + 1, min(upper, trials)))
        upper = upper * 10 // 3 if upper % 3 == 0 else upper * 3  # 3, 10, 30, 100, …
    return bins


def match_shares(method: MethodAccount, bins: list[tuple[int, int]]) -> list[float]:
    """Share of the units that match in each bin, and last the share of those that never do."""
    shares = [float(np.mean((method.match >= first) & (method.match <= last))) for first, last in bins]
    return [*shares, float(np.mean(method.match == 0))]


def matching_figure(account: Account) -> Figure:
    """For each search a row of bars: on which share of the tasks it matches the policy at once, later, or never.

    Blue: the policy is not matched. Red: the first trial is enough.

    Args:
        account: searches held against the policy; one or more.

    Returns:
        A figure with one axes, and one row of bars per search, in their order from the top.
    """
    methods = list(account.methods.values())
    bins = match_bins(max(method.trials for method in methods))
    figure = style.new_figure(7.2, 1.3 + (0.85 if len(methods) <= 6 else 0.6) * len(methods))
    axes = figure.add_subplot()
    style.dress(axes, f"Trials until a search matches the policy, by {account.unit}", "trials", grid="y")
    axes.grid(False)
    places = np.arange(len(bins) + 1) + np.array([0.0] * len(bins) + [0.25])
    colours = [style.RED, *[style.GREY] * (len(bins) - 1), style.BLUE]
    for row, method in enumerate(methods):
        _draw(axes, places, row, match_shares(method, bins), colours)
    axes.set_xticks(places, ["1\nat once", *(_words(*each) for each in bins[1:]), "never"])
    names = [style.label(method.name) for method in methods]
    axes.set_yticks(np.arange(len(methods)) - REACH / 2, names, fontsize=style.MEDIUM)
    axes.set_ylim(len(methods) - 0.9, -1.0)
    axes.set_xlim(-0.6, places[-1] + 0.6)
    axes.tick_params(axis="both", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _draw(axes: Axes, places: np.ndarray, row: int, shares: list[float], colours: list[str]) -> None:
    axes.plot([places[0] - 0.5, places[-1] + 0.5], [row, row], color=style.FAINT, linewidth=0.9, zorder=0)
    axes.bar(places, [-REACH * each for each in shares], 0.86, bottom=row, color=colours)  # the axis points down
    for place, each in zip(places, shares, strict=True):
        axes.annotate(
            share(each),
            (place, row - REACH * each),
            xytext=(0, 1.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=style.SMALL,
            color=style.INK if each else style.GREY,
        )


def _words(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}–{last}"
