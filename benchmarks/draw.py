"""Figures of what the benchmarks saved.

python benchmarks/draw.py runs/benchmarks/engines.json [more of engines.py's …] --out docs/engines.png
python benchmarks/draw.py runs/benchmarks/horizon.json --out docs/horizon.png
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaopt.files import replacing
from metaopt.report.numbers import compact
from metaopt.report.style import (
    BASELINE_COLOURS,
    BASELINE_DASHES,
    BLUE,
    GREY,
    INK,
    MEDIUM,
    SMALL,
    End,
    dress,
    end_labels,
    logarithmic,
    new_figure,
)

BAR_INCHES, ROOM_INCHES = 0.24, 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "records", type=Path, nargs="+", help="what engines.py or horizon.py saved; of the first, several"
    )
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    arguments = parser.parse_args()
    record, *more = (json.loads(path.read_text()) for path in arguments.records)
    if any(other["kind"] != "engines" for other in (record, *more)) and more:
        parser.error("only what engines.py saved can be drawn together")
    for other in more:
        record["workloads"] |= other["workloads"]
    figure = {"engines": engines, "horizon": horizon}[record["kind"]](record)
    with replacing(arguments.out) as temporary:
        figure.savefig(temporary, dpi=150)
    print(f"wrote {arguments.out}")


def engines(record: dict[str, Any]) -> Figure:
    """For each workload a panel of horizontal bars: time relative to the reference; slower ones go to the right."""
    panels = list(record["workloads"].values())
    kept = [{n: one for n, one in panel["results"].items() if "left_out" not in one} for panel in panels]
    ratios = [one["ratio"] for results in kept for one in results.values()]
    heights = [BAR_INCHES * len(results) + ROOM_INCHES for results in kept]
    figure = new_figure(7.5, sum(heights) + 0.35)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    first: Axes | None = None
    for i, (panel, results) in enumerate(zip(panels, kept, strict=True)):
        axes = figure.add_subplot(grid[i], sharex=first)
        first = first or axes
        bars(axes, panel, results)
        logarithmic(axes, "x", min(0.5, 0.7 * min(ratios)), 2.6 * max(ratios))
        last = i == len(panels) - 1
        axes.tick_params(axis="x", labelbottom=last)
        reference = panel["results"][panel["reference"]]["label"]
        axes.set_xlabel(f"time of a meta-iteration, {reference} = 1" if last else "", fontsize=MEDIUM, color=INK)
    return figure


def bars(axes: Axes, panel: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """The panel of one workload."""
    for row, (name, one) in enumerate(results.items()):
        is_ours = name.partition(":")[0] == "ours"
        colour = BLUE if is_ours else GREY
        # From 1 on, so that the length is the logarithm of the ratio.
        axes.barh(row, one["ratio"] - 1, left=1, height=0.72, color=colour)
        if name == panel["reference"]:
            axes.plot(1, row, "o", color=colour, markersize=6, zorder=3)
        ratio = "" if name == panel["reference"] else f"{compact(one['ratio'], 2)}×   "
        place = (max(one["ratio"], 1), row)
        words = {"va": "center", "fontsize": SMALL, "color": INK}
        axes.annotate(ratio + milliseconds(one["median"]), place, (6, 0), textcoords="offset points", **words)
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(results)), [one["label"] for one in results.values()])
    axes.invert_yaxis()
    dress(axes, grid="x")
    axes.set_title(textwrap.fill(panel["title"], 95), loc="left", fontsize=MEDIUM, color=INK)
    axes.tick_params(axis="y", length=0)


def milliseconds(seconds: float) -> str:
    return f"{compact(1e3 * seconds)} ms" if seconds < 1 else f"{compact(seconds)} s"


def horizon(record: dict[str, Any]) -> Figure:
    """Two panels against the horizon: time of an inner step, and memory."""
    figure = new_figure(10.5, 3.9)
    left, right = figure.subplots(1, 2)
    lines(left, record, lambda steps, one: 1e3 * one["median"] / steps)
    lines(right, record, lambda steps, one: max(one["added_mib"], 1.0))
    dress(left, "Time", "inner steps", f"ms per inner step of {record['tasks']} tasks")
    dress(right, "Memory", "inner steps", "MiB that a meta-iteration adds")
    return figure


def lines(axes: Axes, record: dict[str, Any], value: Any) -> None:
    """A line for each candidate, with its name at the end; both axes logarithmic."""
    names = list(dict.fromkeys(name for results in record["horizons"].values() for name in results))
    colours, dashes = [BLUE, *BASELINE_COLOURS], ["-", *BASELINE_DASHES]
    ends, seen = [], []
    for i, name in enumerate(names):
        found = {int(s): results[name] for s, results in record["horizons"].items() if name in results}
        points = [(steps, value(steps, one)) for steps, one in found.items() if "left_out" not in one]
        if not points:
            continue
        again = i // len(colours)  # where colours begin anew, they do so with other dashes
        style = {"color": colours[i % len(colours)], "linestyle": dashes[(i + again) % len(dashes)]}
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.8, **style)
        text = found[points[-1][0]]["label"].removeprefix("metaopt (").rstrip(")")
        ends.append(End(*points[-1], text, style["color"]))
        seen += [y for _, y in points]
    horizons = [int(steps) for steps in record["horizons"]]
    logarithmic(axes, "x", min(horizons) / 1.15, max(horizons) * 1.15)
    axes.set_xticks(horizons, [str(steps) for steps in horizons])
    logarithmic(axes, "y", min(seen) / 1.4, max(seen) * 1.4)
    end_labels(axes, ends)


if __name__ == "__main__":
    main()
