"""The processes among which meta-training divides its tasks: one of them, or those that torchrun started."""

from __future__ import annotations

import importlib
import os
import re
from datetime import timedelta
from typing import Protocol, final

import torch
import torch.distributed
from torch import Tensor

from metaopt.errors import ConfigError, MetaTrainingError

PATIENCE = 1800.0
"""Seconds: the slowest iteration of one process must not seem to the others to be its end."""
LONGEST = 1e7


class Ranks(Protocol):
    """This process among those of a run.

    What sums or gathers must be called by all of them, in the same order.
    """

    @property
    def rank(self) -> int:
        """Which process this is, from 0; process 0 is the one that writes."""
        ...

    @property
    def count(self) -> int:
        """Number of processes."""
        ...

    def share(self, n: int) -> slice:
        """Which of `n` tasks are this process's: equally many for each, up to one; none where there are too few."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, of one shape and type; the same to the bit in each of them."""
        ...

    def sums(self, tensor: Tensor, numbers: list[float]) -> tuple[Tensor, list[float]]:
        """`sum` of a vector and of some numbers at once."""
        ...

    def gather(self, own: Tensor, n: int) -> Tensor:
        """All tasks' rows, [n, ...] in their order, from the rows of this process's share."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether a process says so."""
        ...

    def texts(self, own: str) -> list[str]:
        """What each process says, by rank."""
        ...

    def close(self) -> None:
        """Leaves the others; they may still be at work."""
        ...


@final
class Alone:
    """The only process of a run."""

    rank = 0
    count = 1

    def share(self, n: int) -> slice:
        """See `Ranks`."""
        return slice(0, n)

    def sum(self, tensor: Tensor) -> Tensor:
        """See `Ranks`."""
        return tensor

    def sums(self, tensor: Tensor, numbers: list[float]) -> tuple[Tensor, list[float]]:
        """See `Ranks`."""
        return tensor, numbers

    def gather(self, own: Tensor, n: int) -> Tensor:
        """See `Ranks`."""
        assert len(own) == n
        return own

    def any(self, flag: bool) -> bool:
        """See `Ranks`."""
        return flag

    def texts(self, own: str) -> list[str]:
        """See `Ranks`."""
        return [own]

    def close(self) -> None:
        """See `Ranks`."""


@final
class Processes:
    """The processes of torch.distributed's default group, which must be there, and which `close` ends.

    Every method that talks to the others raises MetaTrainingError where one of them is gone.
    """

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.count = torch.distributed.get_world_size()

    def share(self, n: int) -> slice:
        """See `Ranks`."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def sum(self, tensor: Tensor) -> Tensor:
        """See `Ranks`."""
        total = tensor.detach().clone()
        try:
            torch.distributed.all_reduce(total)  # of which torch promises equal bits everywhere
        except RuntimeError as error:
            raise self._gone(error) from error
        return total

    def sums(self, tensor: Tensor, numbers: list[float]) -> tuple[Tensor, list[float]]:
        """See `Ranks`. In double precision, which holds a process's own sums as they are."""
        # One vector, so that the processes talk once.
        both = torch.cat((tensor.double(), torch.tensor(numbers, dtype=torch.float64, device=tensor.device)))
        total = self.sum(both)
        return total[: len(tensor)].to(tensor.dtype), total[len(tensor) :].tolist()

    def gather(self, own: Tensor, n: int) -> Tensor:
        """See `Ranks`."""
        whole = own.new_zeros((n, *own.shape[1:]))
        whole[self.share(n)] = own
        return self.sum(whole)  # shares may differ in length; zeros elsewhere leave each row as it is

    def any(self, flag: bool) -> bool:
        """See `Ranks`."""
        return bool(self.sum(torch.tensor(int(flag))))

    def texts(self, own: str) -> list[str]:
        """See `Ranks`."""
        found: list[str] = [""] * self.count
        try:
            torch.distributed.all_gather_object(found, own)
        except RuntimeError as error:
            raise self._gone(error) from error
        return found

    def close(self) -> None:
        """See `Ranks`."""
        torch.distributed.destroy_process_group()

    def _gone(self, error: RuntimeError) -> MetaTrainingError:
        return MetaTrainingError(
            f"one of the {self.count} processes is gone, or has not answered for {patience():g} s ({_reason(error)}); "
            "what it printed says why, and resume= goes on from the last checkpoint"
        )


def from_environment() -> Alone | Processes:
    """The processes that torchrun started, joined now over gloo (over nccl for tensors on a GPU), or this one alone.

    nccl begins with the first tensor on a GPU, by when `use_device` has made one this process's own.

    Raises:
        ConfigError: the environment is half of torchrun's, or the processes do not find each other.
    """
    _, count = place()
    if count == 1:
        return Alone()
    # Its functions' default arguments are the group that there is when it is imported, as torch.compile does. With them
    # the group and its threads would outlive `close`, and a thread that meets Python's end can abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    try:
        backends = "cpu:gloo,cuda:nccl" if nccl else "gloo"
        torch.distributed.init_process_group(backends, timeout=timedelta(seconds=patience()))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {count} processes did not find each other ({_reason(error)}); start them with torchrun, or unset "
            "WORLD_SIZE for a run in one"
        ) from error
    return Processes()


def patience() -> float:
    """Seconds that a process waits for the others before it takes them for gone; METAOPT_PATIENCE says how many.

    Raises:
        ConfigError: it is no positive number.
    """
    text = os.environ.get("METAOPT_PATIENCE", "")
    if not text:
        return PATIENCE
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < LONGEST:
        raise ConfigError(f"METAOPT_PATIENCE is {text!r} in the environment; give a number of seconds, such as 600")
    return seconds


def place() -> tuple[int, int]:
    """This process's rank and the number of processes, from torchrun's environment; without it (0, 1).

    Raises:
        ConfigError: WORLD_SIZE and RANK make no sense.
    """
    rank, count = os.environ.get("RANK"), os.environ.get("WORLD_SIZE", "1")
    if count == "1":
        return 0, 1
    try:
        numbers = int(rank or ""), int(count)
    except ValueError:
        numbers = -1, 0
    if not 0 <= numbers[0] < numbers[1]:
        raise ConfigError(
            f"WORLD_SIZE is {count!r} and RANK is {rank!r} in the environment; start with torchrun, which sets them, "
            "or unset WORLD_SIZE for a run in one process"
        )
    return numbers


def _reason(error: Exception) -> str:
    text = re.sub(r"^\[[^]]*\] ", "", str(error))  # the line of gloo's source
    return (text.splitlines() or [type(error).__name__])[0][:100]
