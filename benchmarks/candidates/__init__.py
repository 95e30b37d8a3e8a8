"""The packages that are measured, each driven as its own users drive it."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple, Protocol

from workloads import Arrays, Workload


class Candidate(Protocol):
    """A package made ready for one workload."""

    def hypergradients(self) -> Arrays:
        """Derivatives of the mean query loss, by `lr.NAME`, `l2.NAME` and `init.NAME`; leaves all as it is."""
        ...

    def iteration(self) -> None:
        """What is timed: the hypergradient, and the outer update where the workload has one. Returns when done."""
        ...


class Entry(NamedTuple):
    """Where a candidate is.

    Attributes:
        module: in this folder; it has `build(workload, arrays, variant) -> Candidate`.
        package: the distribution that must be installed.
        label: for tables and figures.
        on_gpu: whether its `build` takes a device besides.
    """

    module: str
    package: str
    label: str
    on_gpu: bool = False


CANDIDATES = {
    "ours": Entry("ours", "torch-metaopt", "metaopt", on_gpu=True),
    "higher": Entry("through_higher", "higher", "higher", on_gpu=True),
    "jax": Entry("jax_scan", "jax", "JAX"),
    "torchopt": Entry("torchopt_meta", "torchopt", "TorchOpt"),
    "betty": Entry("betty_engine", "betty-ml", "Betty"),
}


def entry(candidate: str) -> tuple[Entry, str | None]:
    """A candidate and its variant: `ours:reverse` is the variant `reverse` of `ours`."""
    name, _, variant = candidate.partition(":")
    return CANDIDATES[name], variant or None


def available(candidate: str) -> str | None:
    """The version of the candidate's package; None where it is not installed."""
    package = entry(candidate)[0].package
    if package == "torch-metaopt":
        import metaopt  # noqa: PLC0415  (it runs from a checkout too)

        return metaopt.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def build(candidate: str, workload: Workload, arrays: Arrays, device: str = "cpu") -> Candidate:
    """The candidate, ready for the workload on a device, which must be `cpu` unless its entry is `on_gpu`.

    Raises:
        ImportError: its package is not installed.
    """
    found, variant = entry(candidate)
    make = importlib.import_module(f"candidates.{found.module}").build
    return make(workload, arrays, variant, device) if found.on_gpu else make(workload, arrays, variant)
