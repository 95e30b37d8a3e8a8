"""What a lower precision does to the hypergradient: its error against float64, on the workloads of `engines.py`.

    python benchmarks/precision.py [--workloads mlp50 conv4 …]

The relative error is the Euclidean norm of the difference over that of the float64 hypergradient, all quantities taken
together. `bfloat16` is `inner.dtype=bfloat16`: the model's passes in bfloat16, everything else in float32.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from candidates.ours import Ours, method
from rich.console import Console
from rich.progress import track
from rich.table import Table
from workloads import WORKLOADS, data

PRECISIONS = ("float64", "float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["sinusoid", "mlp50", "conv4"], choices=list(WORKLOADS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("Workload", "precision", "relative error", "cosine", title="hypergradients against float64")
    for key in arguments.workloads:
        truth, *others = (hypergradient(key, precision) for precision in track(PRECISIONS, key, transient=True))
        for precision, found in zip(PRECISIONS[1:], others, strict=True):
            error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
            cosine = found @ truth / np.linalg.norm(found) / np.linalg.norm(truth)
            table.add_row(WORKLOADS[key].title, precision, f"{error:.1e}", f"{cosine:.4f}")
    Console().print(table)


def hypergradient(key: str, precision: str) -> np.ndarray:
    """The mean hypergradient of a workload, flat, in float64."""
    dtype = "float64" if precision == "float64" else "float32"
    torch.set_default_dtype(getattr(torch, dtype))
    workload = WORKLOADS[key]
    ours = Ours(workload, data(workload, dtype=dtype), method(workload, "eager_reverse"), precision)
    return np.concatenate([grads.ravel() for grads in ours.hypergradients().values()]).astype(np.float64)


if __name__ == "__main__":
    main()
