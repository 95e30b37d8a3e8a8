"""What a search's answer is worth after each number of trials, beside the policy, which needs none."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from metaopt.report import style
from metaopt.report.headline import POLICY
from metaopt.report.numbers import distinct
from metaopt.search.account import Account, MethodAccount

LOG_FROM = 10
"""With more trials than that the axis of trials is logarithmic: most of what a search gains, it gains early."""
MANY = 6


def regret_figure(account: Account) -> Figure:
    """Mean test loss of each search's answer against the number of trials, with bands of 95 % intervals.

    The policy is a horizontal line. A point marks where a search's mean first is no higher than the policy's.

    Args:
        account: searches held against the policy; one or more.

    Returns:
        A figure with one axes; y is logarithmic where the means span more than a factor of 4.
    """
    methods = list(account.methods.values())
    figure = style.new_figure(7.2, 4.2 if len(methods) <= MANY else 5.2)
    axes = figure.add_subplot()
    most = max(method.trials for method in methods)
    styles = style.search_styles([method.name for method in methods])
    for method in methods:
        _draw(axes, method, styles[method.name], faint=len(methods) > MANY)
    _draw_policy(axes, account, most)
    style.dress(axes, "Test loss of a search's answer", "trials on each task", "test loss")
    _scale(axes, account, most)
    ends = [
        style.End(method.trials, method.loss[-1].mean, method.name, styles[method.name].colour) for method in methods
    ]
    ends.insert(0, style.End(most, account.policy.mean, POLICY, style.BLUE))
    texts = distinct([end.y for end in ends], most=3)
    labels = [end._replace(text=f"{style.label(end.text)}  {text}") for end, text in zip(ends, texts, strict=True)]
    style.end_labels(axes, labels, gap=0.062 if len(methods) <= MANY else 0.048)
    return figure


def _draw(axes: Axes, method: MethodAccount, look: style.LineStyle, faint: bool) -> None:
    trials = np.arange(1, method.trials + 1)
    mean, low, high = np.array(method.loss).T
    axes.fill_between(trials, low, high, color=look.colour, alpha=0.07 if faint else 0.15, linewidth=0)
    marker = "o" if method.trials == 1 else None
    axes.plot(
        trials,
        mean,
        color=look.colour,
        linestyle=look.dashes,
        linewidth=look.width,
        marker=marker,
        markersize=5,
        label=method.name,
    )
    if method.match_on_mean is not None:
        at = method.match_on_mean
        axes.plot(
            [at],
            [mean[at - 1]],
            "o",
            color="white",
            markeredgecolor=look.colour,
            markeredgewidth=1.6,
            markersize=6,
            zorder=4,
            label="_match",
        )


def _draw_policy(axes: Axes, account: Account, most: int) -> None:
    reach = [1.0, float(most)] if most > 1 else [0.5, 1.5]
    mean, low, high = account.policy
    axes.fill_between(reach, low, high, color=style.BLUE, alpha=0.15, linewidth=0)
    axes.plot(reach, [mean, mean], color=style.BLUE, linewidth=2.6, zorder=3, label=POLICY)


def _scale(axes: Axes, account: Account, most: int) -> None:
    if most > LOG_FROM:
        style.logarithmic(axes, "x", 1.0, float(most))
    else:
        axes.set_xlim(*((1.0, float(most)) if most > 1 else (0.5, 1.5)))
        style.integer_ticks(axes)
    means = np.array([account.policy.mean, *(each.mean for m in account.methods.values() for each in m.loss)])
    if style.spans_decades(means.min(), means.max(), 4.0):
        style.logarithmic(axes, "y", means.min() / 1.15, means.max() * 1.15)
        if means.max() < 10 * means.min():  # evenly spaced ticks would leave the low end, which matters, without any
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=16))
