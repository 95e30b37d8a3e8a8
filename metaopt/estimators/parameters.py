"""What the constructor's parameters of an estimator may be; they are checked when it is fitted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from metaopt.errors import PolicyFileError
from metaopt.pretrained import policy_file, shipped, shipped_path
from metaopt.types import Kind


def policy_path(policy: Any, kind: Kind) -> Path:
    """The policy file that is meant.

    Args:
        policy: path of a policy file or of a run directory, or the name of a policy that comes with metaopt; None: the
            one for tables.
        kind: of the estimator.

    Raises:
        TypeError: it is none of these.
        PolicyFileError: it is None, and no policy came with metaopt.
    """
    if policy is None:
        name = f"tabular_{kind.value}"
        if name not in shipped():
            raise PolicyFileError(
                f"policy is None, but this copy of metaopt comes without {name}.safetensors; give policy= a "
                "policy.safetensors or the directory of a run"
            )
        return shipped_path(name)
    if not isinstance(policy, (str, Path)):
        raise TypeError(
            f"policy is {policy!r}; expected the path of a policy.safetensors or of a run directory, the name of a "
            "policy that comes with metaopt, or None for the one that was learned on tables"
        )
    return policy_file(policy)


def whole_number(name: str, value: Any, default: str = "") -> int:
    """The value, if it is a whole number from 1 on.

    Args:
        name: of the parameter.
        value: its value.
        default: what None would mean, where it is allowed.

    Raises:
        TypeError, ValueError: it is not.
    """
    error = f"{name} is {value!r}; expected a whole number, at least 1" + (
        f", or None for {default}" if default else ""
    )
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(error)
    if value < 1:
        raise ValueError(error)
    return int(value)


def hidden_widths(hidden: Any) -> tuple[int, ...] | None:
    """The widths of hidden layers; None where the policy says.

    Raises:
        TypeError, ValueError: they are no whole numbers from 1 on.
    """
    if hidden is None:
        return None
    if isinstance(hidden, (Sequence, np.ndarray)) and not isinstance(hidden, (str, bytes)):
        return tuple(whole_number(f"hidden[{i}]", width) for i, width in enumerate(hidden))
    raise TypeError(
        f"hidden is {hidden!r}; expected the widths of the hidden layers, such as (32, 32), or None for those of the "
        "policy's model"
    )


def device_of(device: Any) -> torch.device:
    """Where to train.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which is a GPU where there is one.

    Raises:
        ValueError: it is none of these, or this machine has no such GPU.
    """
    if not isinstance(device, str) or not re.fullmatch(r"cpu|auto|cuda(:[0-9]{1,3})?", device):
        raise ValueError(f"device is {device!r}; choose one of cpu, auto, cuda, cuda:N")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = torch.device(("cuda" if gpus else "cpu") if device == "auto" else device)
    if found.type == "cuda" and (found.index or 0) >= gpus:
        raise ValueError(f"device is {device!r}, but torch sees {gpus} GPUs here; use device='cpu'")
    return found


def seeds_of(random_state: Any, n: int) -> list[int]:
    """A seed for each network; the first ones do not depend on how many there are.

    Args:
        random_state: an int, a RandomState, or None for numpy's global one, as in all of scikit-learn.
        n: number of networks.

    Raises:
        ValueError: it is none of these.
    """
    entropy = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    sequences = [np.random.SeedSequence(entropy, spawn_key=(network,)) for network in range(n)]
    return [int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)) for sequence in sequences]
