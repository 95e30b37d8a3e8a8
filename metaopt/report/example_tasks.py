"""A picture of example tasks: what a family asks for, at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.report import style
from metaopt.types import Batch, Kind, Split, TaskBatch, TaskSpec

MOST_IMAGES = 8
SPLIT_TITLES: dict[Split, str] = {
    "meta_train": "meta-train",
    "meta_validation": "meta-validation",
    "meta_test": "meta-test",
}


def example_tasks(
    tasks: Mapping[Split, TaskBatch], spec: TaskSpec, names: Mapping[Split, Sequence[str]] | None = None
) -> Figure:
    """A row of tasks for each split, of which the support sets are shown.

    Images are shown as such, a row for each class and its first examples side by side; a function of one input as its
    curve, with the support set as dots; anything else as the two main directions of its inputs, coloured by class or
    by target.

    Args:
        tasks: some of each split, equally many.
        spec: of the family.
        names: what each task is from, for its title.
    """
    count = tasks["meta_train"].support.x.shape[0]
    is_image = len(spec.input_shape) == 3
    height = 0.4 * min(spec.output_size, MOST_IMAGES) + 0.3 if is_image else 2.6
    figure = style.new_figure(3.1 * count + 0.4, max(height, 1.8) * len(tasks) + 0.3)
    panels = figure.subplots(len(tasks), count, squeeze=False)
    for row, (split, batch) in zip(panels, tasks.items(), strict=True):
        for i, axes in enumerate(row):
            task = TaskBatch(*(Batch(part.x[i], part.y[i]) for part in batch))
            title = names[split][i] if names and names.get(split) else ""
            _draw(axes, task, spec)
            words = " · ".join(word for word in (SPLIT_TITLES[split] if i == 0 else "", title) if word)
            axes.set_title(words, loc="left", fontsize=style.MEDIUM, color=style.INK)
    return figure


def _draw(axes: Axes, task: TaskBatch, spec: TaskSpec) -> None:
    if len(spec.input_shape) == 3:
        _images(axes, task.support)
    elif spec.kind is Kind.regression and spec.input_shape == (1,) and not spec.padded:
        _curve(axes, task)
    else:
        _plane(axes, task.support, spec)


def _images(axes: Axes, support: Batch) -> None:
    """A grid, a row for each class."""
    x, labels = support.x.numpy(), support.y.numpy()
    rows = [x[labels == label][:MOST_IMAGES] for label in np.unique(labels)[:MOST_IMAGES]]
    columns = max(len(row) for row in rows)
    channels, height, width = x.shape[1:]
    sheet = np.ones((len(rows) * (height + 1), columns * (width + 1), channels))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * (height + 1), j * (width + 1)
            sheet[top : top + height, left : left + width] = image.clip(0, 1).transpose(1, 2, 0)
    shown = sheet if channels == 3 else sheet.mean(-1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _curve(axes: Axes, task: TaskBatch) -> None:
    x, y = (np.concatenate([getattr(part, field).numpy()[:, 0] for part in task]) for field in ("x", "y"))
    order = np.argsort(x)
    axes.plot(x[order], y[order], color=style.GREY, linewidth=1.0)
    axes.scatter(task.support.x[:, 0], task.support.y[:, 0], s=22, color=style.BLUE, zorder=2)
    style.dress(axes)


def _plane(axes: Axes, support: Batch, spec: TaskSpec) -> None:
    """The inputs in the plane of their first two principal components."""
    flat = np.nan_to_num(support.x.flatten(1).numpy().astype(np.float64))
    centred = flat - flat.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    plane = centred @ directions.T
    if plane.shape[1] == 1:
        plane = np.concatenate([plane, np.zeros_like(plane)], 1)
    if spec.kind is Kind.classification:
        labels = (support.y.argmax(-1) if spec.padded else support.y).numpy()
        palette = colormaps["tab10"]
        colours = [palette(int(label) % 10) for label in labels]
        axes.scatter(plane[:, 0], plane[:, 1], s=16, c=colours, alpha=0.8, linewidths=0)
    else:
        targets = support.y.reshape(len(plane), -1)[:, 0].numpy()
        axes.scatter(plane[:, 0], plane[:, 1], s=16, c=targets, cmap="viridis", linewidths=0)
    style.dress(axes)
    axes.set_xticks([])
    axes.set_yticks([])
