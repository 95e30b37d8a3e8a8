"""How strong each learned quantity is, tensor by tensor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.errors import ConfigError
from metaopt.policies.reading import PolicyReading
from metaopt.report import style

QUANTITY_WORDS = {
    "lr": "learning rate α",
    "l2": "L2 strength λ",
    "pull": "pull towards the initialisation ρ",
    "init_std": "initial standard deviation σ",
    "dropout": "dropout rate",
}
BINS = 160


def strengths_by_layer(reading: PolicyReading, quantity: str) -> Figure:
    """One row per parameter tensor, the first layer on top, on a logarithmic axis.

    A tensor with a strength per element is drawn as a distribution, with its quartiles as a bar and its median as a
    point; a tensor with a single strength as a point. One strength that serves all tensors is a single row.

    Args:
        reading: what the policy has learned.
        quantity: "lr", "l2", "pull", "init_std" or "dropout".

    Returns:
        A figure with one axes.

    Raises:
        ConfigError: the policy has no such quantity.
    """
    if quantity not in reading.strengths:
        raise ConfigError(
            f"expected a quantity that the policy has ({', '.join(reading.strengths) or 'none'}), got {quantity!r}; "
            "choose one of them"
        )
    rows = _rows(reading.strengths[quantity])
    pitch = 0.42 if len(rows) <= 24 else 0.24
    figure = style.new_figure(7.2, 1.3 + pitch * len(rows))
    axes = figure.add_subplot()
    title = quantity_title(quantity) + ("" if quantity in reading.learned else " (fixed)")
    style.dress(axes, title, _axis_label(rows), grid="x")
    low, high = _limits(rows)
    style.logarithmic(axes, "x", low, high)
    edges = np.geomspace(low, high, BINS + 1)
    for height, values in enumerate(rows.values()):
        _draw(axes, height, values, edges)
    axes.set_yticks(range(len(rows)), [style.label(name) for name in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    return figure


def quantity_title(quantity: str) -> str:
    """Such as "Learning rate α"."""
    words = QUANTITY_WORDS.get(quantity, quantity)
    return words[0].upper() + words[1:]


def _rows(strengths: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Flat values by row label, in the model's order; one row where one number serves all tensors."""
    values = list(strengths.values())
    if len(values) > 1 and all(v.ndim == 0 and v == values[0] for v in values):
        return {"all tensors": values[0].reshape(1)}
    return {name: np.asarray(v, dtype=np.float64).reshape(-1) for name, v in strengths.items()}


def _axis_label(rows: dict[str, np.ndarray]) -> str:
    if any(len(values) > 1 for values in rows.values()):
        return "distribution over the entries, with median and quartiles"
    return "one value for each tensor" if len(rows) > 1 else "one value"


def _limits(rows: dict[str, np.ndarray]) -> tuple[float, float]:
    values = np.concatenate(list(rows.values()))
    positive = values[(values > 0) & np.isfinite(values)]
    if not len(positive):
        return 0.1, 1.0
    low, high = positive.min(), positive.max()
    margin = max((high / low) ** 0.05, 1.25)
    return float(low / margin), float(high * margin)


def _draw(axes: Axes, height: int, values: np.ndarray, edges: np.ndarray) -> None:
    positive = values[(values > 0) & np.isfinite(values)]
    if not len(positive):
        axes.annotate("0 everywhere", (0.01, height), xycoords=("axes fraction", "data"), va="center", color=style.GREY)
        return
    median = float(np.median(positive))
    if len(positive) > 1:
        reach = 0.36 * _density(positive, edges)
        centres = np.sqrt(edges[:-1] * edges[1:])
        shown = (centres >= positive.min() * 0.99) & (centres <= positive.max() * 1.01)
        axes.fill_between(
            centres, height - reach, height + reach, where=shown, color=style.BLUE, alpha=0.3, linewidth=0
        )
        quartiles = np.quantile(positive, [0.25, 0.75])
        axes.plot(quartiles, [height, height], color=style.BLUE, linewidth=3.5, solid_capstyle="round")
    axes.plot([median], [height], "o", color="white", markeredgecolor=style.BLUE, markeredgewidth=1.8, markersize=6)


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Kernel density of the logarithms with Scott's bandwidth, its highest point 1; [bins]."""
    counts = np.histogram(values, edges)[0].astype(np.float64)
    step = float(np.log(edges[1] / edges[0]))
    bandwidth = max(float(np.log(values).std()) * len(values) ** -0.2 / step, 0.7)  # in bins
    offsets = np.arange(-len(counts) + 1, len(counts))
    smooth = np.convolve(counts, np.exp(-0.5 * (offsets / bandwidth) ** 2), mode="valid")
    return smooth / smooth.max()
