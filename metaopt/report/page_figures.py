"""The page's figures, each with a caption and with words for those who cannot see it."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from metaopt.evaluation.records import Comparison
from metaopt.policies.reading import PolicyReading
from metaopt.report import alternatives as words
from metaopt.report.curvature import curvature_figure
from metaopt.report.differences import task_differences
from metaopt.report.first_layer import first_layer_image
from metaopt.report.headline import task_words
from metaopt.report.learning_curves import learning_curves
from metaopt.report.matching import matching_figure
from metaopt.report.multipliers import multipliers_figure
from metaopt.report.regret import regret_figure
from metaopt.report.schedule import schedule_figure
from metaopt.report.strengths import quantity_title, strengths_by_layer
from metaopt.report.svg import Drawing, figure_svg
from metaopt.search.account import Account


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Attributes:
        key: its id.
        drawing: the SVG.
        title: what it is.
        caption: how to read it.
        alternative: what it shows, in numbers.
    """

    key: str
    drawing: Drawing
    title: str
    caption: str
    alternative: str


def account_figures(account: Account) -> list[PageFigure]:
    """Loss against trials, and trials to match."""
    return [
        _drawn(
            "regret",
            regret_figure(account),
            "Test loss of each search's answer after 1, 2, … trials.",
            "Means with the bands of their 95 % intervals; the policy needs no trial. A ring marks where a search's "
            "mean first is no higher than the policy's. Dashed: searches that start from the policy.",
            words.regret_words(account),
        ),
        _drawn(
            "matching",
            matching_figure(account),
            f"Trials until a search matches the policy, by {account.unit}.",
            f"Shares of the {account.unit}s. Blue: never; red: the first trial is enough.",
            words.matching_words(account),
        ),
    ]


def comparison_figures(comparison: Comparison) -> list[PageFigure]:
    """Learning curves, and with a baseline the differences on each task."""
    on = task_words(comparison)
    figures = [
        _drawn(
            "curves",
            learning_curves(comparison),
            f"Learning on {on}.",
            "Mean test loss along the inner steps, with the bands of its 95 % interval.",
            words.curves_words(comparison),
        )
    ]
    if len(comparison.methods) > 1:
        figures.append(
            _drawn(
                "differences",
                task_differences(comparison),
                f"{comparison.unit.capitalize()} by {comparison.unit} against the policy.",
                f"Each point is one {comparison.unit}; the diamond is the mean, with its 95 % interval. "
                "Blue: the policy is better.",
                words.differences_words(comparison),
            )
        )
    return figures


def reading_figures(reading: PolicyReading) -> list[PageFigure]:
    """Strengths by layer, the schedule, pictures of the first layer and matrices: what of these there is."""
    found: list[tuple[str, Figure | None, str, str, str]] = []
    for quantity in reading.strengths:
        title = quantity_title(quantity) + ("" if quantity in reading.learned else " (fixed)")
        strengths = words.strengths_words(reading, quantity)
        drawn = strengths_by_layer(reading, quantity)
        found.append((f"strengths-{quantity}", drawn, f"{title} by parameter tensor.", "", strengths))
    how = "The factor on the learning rate at each inner step."
    found.append(("schedule", schedule_figure(reading), "Schedule s.", how, words.schedule_words(reading)))
    how = "Medians over some of the tasks, with bands that hold the middle four fifths of them."
    drawn = multipliers_figure(reading)
    found.append(
        ("multipliers", drawn, "What the network makes of the strengths.", how, words.multipliers_words(reading))
    )
    for quantity in reading.strengths:
        title = f"{quantity_title(quantity)} of the first layer."
        picture = words.first_layer_words(reading, quantity)
        drawn = first_layer_image(reading, quantity)
        found.append((f"first-layer-{quantity}", drawn, title, "Each value lies where its input lies.", picture))
    title = "Matrices that gradients are multiplied with."
    found.append(("curvature", curvature_figure(reading), title, "", words.curvature_words(reading)))
    return [_drawn(key, figure, *texts) for key, figure, *texts in found if figure is not None]


def _drawn(key: str, figure: Figure, title: str, caption: str, alternative: str) -> PageFigure:
    return PageFigure(key, figure_svg(figure, key), title, caption, alternative)
