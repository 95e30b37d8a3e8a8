"""No tracking."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np


@final
class NoTracker:
    """Takes everything and keeps nothing; the run directory holds the records anyway."""

    def log(self, record: dict[str, Any], step: int) -> None:
        """Do nothing."""

    def histograms(self, values: dict[str, np.ndarray], step: int) -> None:
        """Do nothing."""

    def finish(self, table: list[dict[str, Any]] | None, figures: list[Path], policy: Path | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
