"""Forward-mode derivatives without the warning that torch's own rules raise when they are first loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def jvp(function: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """`torch.func.jvp`: the function's value, and its derivative along the tangents."""
    _load_rules()
    value, derivative = torch.func.jvp(function, primals, tangents)  # type: ignore[misc]
    return value, derivative


@cache
def _load_rules() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit.script, which torch itself still uses here
        one = torch.ones(())
        torch.func.jvp(torch.sin, (one,), (one,))
