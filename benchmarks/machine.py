"""What a benchmark ran on, for its record."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "higher", "jax", "jaxlib", "optax", "torchopt", "betty-ml")


def machine() -> dict[str, Any]:
    """CPU, cores, memory, GPU, load, versions and date, as plain values."""
    return {
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "gpu": _gpu(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _gpu() -> str | None:
    import torch  # noqa: PLC0415  (takes seconds)

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _first(path: str, field: str) -> str | None:
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == field:
                return value.strip()
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
