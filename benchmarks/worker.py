"""The child process of the benchmarks: one candidate on one workload, asked in lines of JSON.

    python benchmarks/worker.py CANDIDATE WORKLOAD DTYPE DEVICE

Requests on stdin: {"do": "hypergradients", "path": …} writes an .npz; {"do": "time", "iterations": n} replies
{"seconds": …} of one iteration; {"do": "memory"} replies {"added_mib": …, "peak_mib": …},
of the process, or of the GPU where the device is `cuda`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO


def pin(threads: int) -> None:
    """Keeps the process to so many cores, and the libraries that are imported after it to so many threads."""
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cores)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"


def memory(candidate: Any, device: str) -> dict[str, float]:
    """Peak memory of one iteration, absolute and above what was there before it: resident, or allocated on the GPU.

    What earlier iterations freed goes back to the system first, or the peak would hide in it.
    """
    gc.collect()
    if device != "cpu":
        return _gpu_memory(candidate)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    candidate.iteration()
    peak = _status("VmHWM")
    return {"added_mib": peak - before, "peak_mib": peak}


def _gpu_memory(candidate: Any) -> dict[str, float]:
    import torch  # noqa: PLC0415  (after `pin`)

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    candidate.iteration()
    peak = torch.cuda.max_memory_allocated()
    return {"added_mib": (peak - before) / 2**20, "peak_mib": peak / 2**20}


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def seconds(candidate: Any, iterations: int, device: str) -> float:
    """Wall time of one of so many iterations."""
    wait(device)
    began = time.perf_counter()
    for _ in range(iterations):
        candidate.iteration()
    wait(device)
    return (time.perf_counter() - began) / iterations


def wait(device: str) -> None:
    """Returns when a GPU has done all that it was given."""
    if device != "cpu":
        import torch  # noqa: PLC0415  (after `pin`)

        torch.cuda.synchronize()


def answer(candidate: Any, request: dict[str, Any], device: str) -> dict[str, Any]:
    """The reply to one request."""
    match request["do"]:
        case "hypergradients":
            import numpy as np  # noqa: PLC0415  (after `pin`)

            np.savez(request["path"], **candidate.hypergradients())
            return {}
        case "time":
            return {"seconds": seconds(candidate, request["iterations"], device)}
        case "memory":
            return memory(candidate, device)
        case other:
            raise ValueError(f"unknown request {other!r}")


def serve(name: str, key: str, dtype: str, device: str, replies: TextIO) -> None:
    """Makes the candidate ready, says so, and answers until stdin ends."""
    from candidates import build  # noqa: PLC0415  (after `pin`)
    from workloads import data, workload  # noqa: PLC0415

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        load = workload(key)
        candidate = build(name, load, data(load, dtype=dtype), device)
        reply({"ready": True})
        for line in sys.stdin:
            reply(answer(candidate, json.loads(line), device))
    except Exception as error:  # whatever a package raises, the parent shows it and goes on
        traceback.print_exc()
        reply({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


def set_up(name: str, key: str, dtype: str, device: str) -> None:
    """Cores, threads and precision, before anything large is imported."""
    from workloads import workload  # noqa: PLC0415

    threads = workload(key).threads
    pin(threads)
    if name == "jax" or name.startswith("jax:"):
        os.environ["JAX_ENABLE_X64"] = str(int(dtype == "float64"))
        return
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    torch.set_default_dtype(getattr(torch, dtype))
    if device != "cpu":
        from metaopt.config.device import use_device  # noqa: PLC0415

        use_device(device)  # without TF32, for all candidates alike


def main() -> None:
    name, key, dtype, device = sys.argv[1:]
    # Libraries print to stdout; replies go to the real one, and everything else to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    set_up(name, key, dtype, device)
    serve(name, key, dtype, device, replies)


if __name__ == "__main__":
    main()
