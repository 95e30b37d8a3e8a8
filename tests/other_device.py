"""A device that is not the CPU and needs no hardware, to find operations that mix tensors of both.

Tensors on torch's device `meta` have shapes and no values. Their operations do not all look at where other arguments
are, so that `apart` does; and it stands in for what a device with values could do.
"""

import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metaopt.inner.draws import cast_draws
from metaopt.inner.jvp import jvp
from metaopt.trees import cast_tasks

ELSEWHERE = torch.device("meta")
aten = torch.ops.aten


class Mixed(AssertionError):
    """An operation took tensors from two devices, or made one on the CPU where all is elsewhere."""


class apart(TorchDispatchMode):
    """Raises Mixed where an operation takes tensors from two devices; numbers that are read are all 1.

    As on a GPU, elementwise operations of two tensors take single numbers from the CPU.

    Args:
        only: whether nothing may be made on the CPU either.
    """

    def __init__(self, only=False):
        super().__init__()
        self.only = only
        one = torch.ones(())
        jvp(torch.sin, (one,), (one,))  # which makes a tensor on the CPU once in a process

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        devices = {leaf.device.type for leaf in given}
        elementwise = torch.Tag.pointwise in func.tags and len(given) == 2
        counted = {leaf.device.type for leaf in given if leaf.dim() or leaf.device.type != "cpu" or not elementwise}
        if len(counted) > 1 and func is not aten.copy_.default:
            raise Mixed(f"{func} takes tensors on {' and '.join(sorted(counted))}")
        if ELSEWHERE.type in devices:
            if func is aten._local_scalar_dense.default:
                return True if args[0].dtype == torch.bool else 1 if not args[0].is_floating_point() else 1.0
            if func is aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            if func is aten._fused_adam_.default:
                return None
        found = func(*args, **kwargs)
        # Forward mode's zeros without memory are torch's own affair.
        only = self.only and func is not aten._efficientzerotensor.default
        if only and any(leaf.device.type == "cpu" and leaf.numel() for leaf in _tensors(found)):
            raise Mixed(f"{func} makes a tensor on the CPU")
        return found


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def moved(problem):
    """A problem of the tests with its policy, tasks and draws elsewhere; the policy itself is changed."""
    dtype = next(problem.policy.parameters()).dtype
    return problem._replace(
        policy=problem.policy.to(ELSEWHERE),
        tasks=cast_tasks(problem.tasks, dtype, ELSEWHERE),
        draws=cast_draws(problem.draws, dtype, ELSEWHERE),
    )


def allow_fused_adam(monkeypatch):
    """As a GPU has it; `apart` makes its steps, which do nothing."""
    for name in ("torch.optim.optimizer", "torch.optim.adam"):  # one or the other, depending on torch's version
        module, both = sys.modules[name], ["cpu", ELSEWHERE.type]
        monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", lambda both=both: both, raising=False)
