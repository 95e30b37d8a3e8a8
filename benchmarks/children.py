"""Worker processes, as the parent sees them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("worker.py")


class ChildError(Exception):
    """A worker failed; the message is one line."""


class Child:
    """A worker: one candidate on one workload, on the device `cpu` or `cuda`. Use it as a context manager, or close it.

    Raises:
        ChildError: the candidate could not be made ready.
    """

    def __init__(self, candidate: str, workload: str, dtype: str = "float32", device: str = "cpu") -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in `close`)
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), candidate, workload, dtype, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self._reply()
        except ChildError:
            self.close()
            raise

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hypergradients(self) -> dict[str, np.ndarray]:
        """Mean hypergradients at the workload's starting point, by name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hypergradients.npz"
            self._ask({"do": "hypergradients", "path": str(path)})
            with np.load(path) as found:
                return dict(found)

    def seconds(self, iterations: int) -> float:
        """Seconds of one of so many meta-iterations."""
        return self._ask({"do": "time", "iterations": iterations})["seconds"]

    def memory(self) -> dict[str, float]:
        """`added_mib` and `peak_mib` of one meta-iteration."""
        return self._ask({"do": "memory"})

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(f"the process died: {self._last_words()}")
        message = json.loads(line)
        if "error" in message:
            raise ChildError(message["error"])
        return message

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"


def disagreement(found: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> tuple[float, str]:
    """The largest difference relative to the largest entry of its tensor, and the tensor's name; NaN counts as ∞."""
    if found.keys() != reference.keys():
        return float("inf"), ", ".join(sorted(found.keys() ^ reference.keys()))
    errors = {}
    for name, expected in reference.items():
        error = float(np.abs(found[name] - expected).max() / np.abs(expected).max())
        errors[name] = float("inf") if math.isnan(error) else error
    worst = max(errors, key=lambda name: errors[name])
    return errors[worst], worst
