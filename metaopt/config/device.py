"""Where a run computes: on the CPU, or on a GPU of this process's own."""

from __future__ import annotations

import os
import re

import torch

from metaopt.errors import ConfigError
from metaopt.outer.ranks import place
from metaopt.types import CPU


def check_device(setting: str) -> None:
    """Raises ConfigError unless `setting` is a word that `device` knows, whatever this machine has."""
    if not re.fullmatch(r"cpu|auto|cuda(:[0-9]{1,3})?", setting):
        raise ConfigError(f"device is {setting!r}; choose one of cpu, auto, cuda, cuda:N")


def use_device(setting: str) -> torch.device:
    """The device of this process, and the process made ready for it: called once, before anything is computed.

    Args:
        setting: `cpu`; `cuda:N`; `cuda`, the first GPU, or under torchrun the one of the process's local rank; `auto`,
            which is `cuda` where there is a GPU, else `cpu`.

    Raises:
        ConfigError: see `choose_device` and `local_place`.
    """
    check_device(setting)
    if setting == "cpu":
        return CPU
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = choose_device(setting, gpus, *(local_place() if gpus else (0, 1)))
    if device.type == "cuda":
        # Kernels and collectives that name no GPU go to this one, in each of torchrun's processes to another.
        torch.cuda.set_device(device)
        # float32 means float32 here too: TF32 would round what products and convolutions read to 10 bits.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def choose_device(setting: str, gpus: int, local_rank: int = 0, local_processes: int = 1) -> torch.device:
    """What a setting means.

    Args:
        setting: see `use_device`.
        gpus: number of GPUs that torch finds.
        local_rank: which of the run's processes on this machine this is.
        local_processes: how many of them there are.

    Raises:
        ConfigError: there is no such GPU, or too few for processes with a GPU each.
    """
    if setting == "cpu" or (setting == "auto" and gpus == 0):
        return CPU
    if gpus == 0:
        raise ConfigError(f"device is {setting!r}, but torch finds no GPU here; use device=cpu")
    _, _, number = setting.partition(":")
    if number and int(number) >= gpus:
        names = ", ".join(f"cuda:{i}" for i in range(gpus))
        raise ConfigError(
            f"device is {setting!r}, but the GPUs that torch finds here are: {names}; choose one of these"
        )
    if number and local_processes > 1:
        raise ConfigError(
            f"device is {setting!r}, but {local_processes} processes run on this machine, each of which needs a GPU of "
            "its own; use device=cuda"
        )
    if max(local_processes, local_rank + 1) > gpus:
        raise ConfigError(
            f"device is {setting!r}, but {local_processes} processes run on this machine, which has {gpus} GPU"
            f"{'s' if gpus > 1 else ''}; start torchrun with --nproc-per-node={gpus}, or use device=cpu"
        )
    return torch.device("cuda", int(number) if number else local_rank)


def local_place() -> tuple[int, int]:
    """This process's rank among the run's processes on this machine, and their number; without torchrun (0, 1).

    Raises:
        ConfigError: there are several processes, and the environment does not say which of this machine's this is.
    """
    if place()[1] == 1:
        return 0, 1
    rank, count = os.environ.get("LOCAL_RANK", ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    numbers = (int(rank), int(count)) if rank.isdecimal() and count.isdecimal() else (0, 0)
    if not numbers[0] < numbers[1]:
        raise ConfigError(
            f"LOCAL_RANK is {rank!r} and LOCAL_WORLD_SIZE is {count!r} in the environment, which must say which GPU is "
            "this process's; start with torchrun, which sets them, or use device=cpu"
        )
    return numbers


def on_gpu(device: torch.device) -> str:
    """ ", on cuda:0 (its name)", to be put behind what a run says of itself; nothing for the CPU."""
    return f", on {device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""


def memory_of(device: torch.device) -> int | None:
    """Bytes of a GPU's memory; None for the CPU, which has the machine's."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def wait_for(device: torch.device) -> None:
    """Returns when a GPU has done all that it was given; at once for the CPU, which never runs behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
