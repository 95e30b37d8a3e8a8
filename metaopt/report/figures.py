"""All figures of an evaluation, drawn and saved."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from metaopt.evaluation.records import Comparison
from metaopt.files import replacing
from metaopt.policies.reading import PolicyReading
from metaopt.report.curvature import curvature_figure
from metaopt.report.differences import task_differences
from metaopt.report.first_layer import first_layer_image
from metaopt.report.learning_curves import learning_curves
from metaopt.report.matching import matching_figure
from metaopt.report.multipliers import multipliers_figure
from metaopt.report.regret import regret_figure
from metaopt.report.schedule import schedule_figure
from metaopt.report.strengths import strengths_by_layer
from metaopt.search.account import Account

__all__ = [
    "curvature_figure",
    "first_layer_image",
    "learning_curves",
    "matching_figure",
    "multipliers_figure",
    "regret_figure",
    "save_figure",
    "save_figures",
    "schedule_figure",
    "strengths_by_layer",
    "task_differences",
]

DPI = 150


def save_figures(
    comparison: Comparison | None, reading: PolicyReading, folder: Path, account: Account | None = None
) -> list[Path]:
    """Draw everything that there is to draw, one PNG each.

    The names are learning_curves.png and task_differences.png (with a comparison), regret.png and trials_to_match.png
    (with an account of searches), strengths_QUANTITY.png and first_layer_QUANTITY.png (for each quantity that allows
    it), schedule.png (with a schedule), multipliers.png (with a network that sets the strengths) and curvature.png
    (with matrices for the gradients).

    Args:
        comparison: the outcomes; None when only the policy is to be shown.
        reading: what the policy has learned.
        folder: where they go; made if it is missing.
        account: searches held against the policy; None without any.

    Returns:
        The files, in that order.

    Raises:
        OSError: the folder cannot be written to.
    """
    figures: dict[str, Figure | None] = {}
    if comparison is not None:
        figures["learning_curves"] = learning_curves(comparison)
        figures["task_differences"] = task_differences(comparison) if len(comparison.methods) > 1 else None
    if account is not None and account.methods:
        figures["regret"] = regret_figure(account)
        figures["trials_to_match"] = matching_figure(account)
    figures |= {f"strengths_{quantity}": strengths_by_layer(reading, quantity) for quantity in reading.strengths}
    figures |= {f"first_layer_{quantity}": first_layer_image(reading, quantity) for quantity in reading.strengths}
    figures["schedule"] = schedule_figure(reading)
    figures["multipliers"] = multipliers_figure(reading)
    figures["curvature"] = curvature_figure(reading)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG, in one stroke; the same figure gives the same bytes.

    Raises:
        OSError: the folder cannot be written to.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
    return path
