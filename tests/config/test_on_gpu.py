"""On a GPU hypergradients are those of the CPU; skipped where there is none."""

import pytest
import torch

from metaopt.config.build import build_job
from metaopt.config.device import use_device
from metaopt.config.load import train_config
from metaopt.outer.loop import differentiate
from metaopt.outer.mixture import parts_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

JOBS = {
    "mlp": ("policy=per_parameter",),
    "adaptive": ("policy=adaptive",),
    "conv4": ("model=conv4", "model.channels=8", "policy=meta_sgd", "inner.batch_size=null"),
}


def hypergradient(composed, device, *overrides):
    words = (
        "tracking=none",
        "outer.meta_batch=4",
        "outer.validation_tasks=4",
        "inner.horizon=3",
        "inner.dtype=float64",
    )
    config = train_config(composed(*words, f"device={device}", *overrides))
    job = build_job(config, device=use_device(device))
    (part,) = parts_of(job.problem, job.state.policy)
    return differentiate(part, 4, job.state.generator).flat.sum(0).cpu()


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_hypergradients_are_those_of_the_cpu(composed, job, compiled):
    words = (*JOBS[job], "inner.task_chunk=4")
    expected = hypergradient(composed, "cpu", *words, "inner.compile=false")
    found = hypergradient(composed, "cuda", *words, f"inner.compile={compiled}")
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
