"""Workloads to plan for, and plans for them."""

from dataclasses import replace

from metaopt.inner.plan import Workload, make_plan

GIB = 2**30
SMALL = Workload(
    horizon=50,
    iterations=100,
    meta_batch=16,
    tensors=6,
    carry=10_000,
    activations=2_000,
    itemsize=4,
    convolutional=True,
)
LONG = replace(SMALL, horizon=1000, iterations=10_000)


def unmeasured(_):
    raise AssertionError("nothing is to be measured")


def planned(
    workload=SMALL, hypergradient="auto", task_chunk=None, compile_=None, seconds_at=None, memory=16 * GIB, threads=1
):
    return make_plan(workload, hypergradient, task_chunk, compile_, seconds_at or (lambda chunk: 1.0), memory, threads)
