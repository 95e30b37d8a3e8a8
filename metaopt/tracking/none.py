"""No tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from metaopt.tracking.tracker import Rows


@final
class NoTracker:
    """Takes everything and keeps nothing; the run directory holds the records anyway."""

    def log(self, record: dict[str, Any], step: int) -> None:
        """Do nothing."""

    def histograms(self, values: dict[str, np.ndarray], step: int) -> None:
        """Do nothing."""

    def finish(
        self, tables: Mapping[str, Rows], figures: Sequence[Path], policy: Path | None, report: Path | None = None
    ) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
