"""The ways to the hypergradient; each takes `chunk` and `compiler`."""

from functools import partial

from metaopt.inner.checkpointing import Checkpointing
from metaopt.inner.forward import MOST_NUMBERS, Forward
from metaopt.inner.mixed import Mixed
from metaopt.inner.reverse import Reverse
from metaopt.inner.truncated import Truncated

EXACT = {
    "mixed": Mixed,
    "mixed_forward": partial(Mixed, second="forward"),
    "checkpointing": Checkpointing,
    "checkpointing_1": partial(Checkpointing, stored=1),
    "checkpointing_2": partial(Checkpointing, stored=2, second="forward"),
    "checkpointing_100": partial(Checkpointing, stored=100),
    "truncated_whole": partial(Truncated, window=5),
    "truncated_forward": partial(Truncated, window=100, second="forward"),
    "forward": Forward,
}
"""The same as `Reverse`, up to rounding, for horizons of at most 5."""
FIRST_ORDER = {
    "mixed": partial(Mixed, second="none"),
    "checkpointing": partial(Checkpointing, second="none"),
    "checkpointing_1": partial(Checkpointing, stored=1, second="none"),
    "truncated": partial(Truncated, window=5, second="none"),
}
"""The same as `Reverse(first_order=True)`."""
ALL = {
    "reverse": Reverse,
    "first_order": partial(Reverse, first_order=True),
    **EXACT,
    "mixed_none": partial(Mixed, second="none"),
    "truncated_2": partial(Truncated, window=2),
    "truncated_1_none": partial(Truncated, window=1, second="none"),
}


def fits(name, problem):
    """Whether the policy is small enough for the mode."""
    return name != "forward" or sum(p.numel() for p in problem.policy.parameters()) <= MOST_NUMBERS
