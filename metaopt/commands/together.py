"""What all processes of a run must agree on before the first iteration: that nothing failed in any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from metaopt.errors import ConfigError, MetaoptError
from metaopt.outer.ranks import Ranks

T = TypeVar("T")


def together(ranks: Ranks, work: Callable[[], T]) -> T:
    """Does something in all processes; where it fails in one, it fails in all, so that none is left waiting.

    Raises:
        MetaoptError: what `work` raised here, or else what it raised in the first process in which it failed.
    """
    done: list[T] = []
    own: MetaoptError | None = None
    try:
        done.append(work())
    except MetaoptError as error:
        own = error
    failures = [text for text in ranks.texts("" if own is None else str(own)) if text]
    if failures:
        raise own or MetaoptError(failures[0])
    return done[0]


def first_alone(ranks: Ranks, work: Callable[[str], T], tell: Callable[[T], str] = lambda _: "") -> T:
    """Does something in process 0 and then in the others, which find what it fetched or cached; see `together`.

    Args:
        ranks: this process among the others.
        work: gets what process 0 tells, which itself gets "".
        tell: what process 0 tells of its result; default: nothing.
    """
    first = together(ranks, lambda: [work("")] if ranks.rank == 0 else [])
    told = ranks.texts(tell(first[0]) if first else "")[0]
    return together(ranks, lambda: first[0] if first else work(told))


def check_devices(kind: str, ranks: Ranks) -> None:
    """Raises ConfigError, in all processes, where some are on a GPU and others are not, which cannot add up tensors."""
    kinds = sorted(set(ranks.texts(kind)))
    if len(kinds) > 1:
        raise ConfigError(f"device=auto means {' and '.join(kinds)} on different machines; give device={kinds[0]}")


def check_shares(meta_batch: int, ranks: Ranks) -> None:
    """Raises ConfigError where a process would have no task of a meta-batch."""
    if meta_batch < ranks.count:
        raise ConfigError(
            f"outer.meta_batch={meta_batch} cannot be divided among {ranks.count} processes; raise it, or start fewer "
            "with torchrun --nproc-per-node"
        )
