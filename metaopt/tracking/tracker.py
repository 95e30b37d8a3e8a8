"""What a run tells an experiment tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from metaopt.policies.reading import PolicyReading

Rows: TypeAlias = list[dict[str, Any]]
"""A table: its rows by name of the column."""
POSITIONS = ("iteration", "step")
"""Where a record stands in the run; given as the step, not as a metric."""


class Tracker(Protocol):
    """Takes a run's records as they come."""

    def log(self, record: dict[str, Any], step: int) -> None:
        """Numbers of one moment: a row of metrics.jsonl, or metrics that are named already.

        Args:
            record: what was measured; see `scalar_metrics`.
            step: the outer iteration.
        """
        ...

    def histograms(self, values: dict[str, np.ndarray], step: int) -> None:
        """Distributions of one moment.

        Args:
            values: by metric name, arrays of any shape; see `policy_histograms`.
            step: the outer iteration.
        """
        ...

    def finish(
        self, tables: Mapping[str, Rows], figures: Sequence[Path], policy: Path | None, report: Path | None = None
    ) -> None:
        """What the run found in the end.

        Args:
            tables: by name, such as the comparison with a row per method; empty ones are left out.
            figures: images.
            policy: the policy's file.
            report: a page to be read.
        """
        ...

    def close(self) -> None:
        """The last call; everything given so far is safe when it returns."""
        ...


def scalar_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's numbers as metrics: {"kind": "meta_train", "loss": 0.4} becomes {"meta_train/loss": 0.4}.

    Texts, missing values and the iteration itself are left out; a record without a kind keeps its names.
    """
    prefix = f"{record['kind']}/" if "kind" in record else ""
    return {
        prefix + name: float(value)
        for name, value in record.items()
        if isinstance(value, Real) and name not in POSITIONS
    }


def policy_histograms(reading: PolicyReading) -> dict[str, np.ndarray]:
    """A policy's strengths, matrices and weights of mixtures as metrics: "policy/lr/0.weight",
    "policy/curvature/0.weight/1", "policy/label_smoothing" and so on."""
    strengths = {
        f"policy/{quantity}/{name}": values
        for quantity, tensors in reading.strengths.items()
        for name, values in tensors.items()
    }
    matrices = {
        f"policy/curvature/{name}/{mode}": matrix
        for name, of_tensor in reading.matrices.items()
        for mode, matrix in enumerate(of_tensor)
    }
    numbers = {f"policy/{quantity}": np.asarray(value) for quantity, value in reading.numbers.items()}
    weights = {
        f"policy/{what}/{name}": np.asarray(weight)
        for what, weights in reading.mixed.items()
        for name, weight in weights.items()
    }
    return strengths | matrices | numbers | weights
