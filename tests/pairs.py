"""Products of options: pairs of them on every push, all of them at night."""

from itertools import combinations, product

import pytest


def covering(cases):
    """A few of the cases in which every pair of values, of any two of their places, comes up that does so in all.

    Greedy: each next case is the one that brings the most new pairs, the first of those that bring as many.
    """
    pairs = {case: set(combinations(enumerate(case), 2)) for case in cases}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        best = max(pairs, key=lambda case: len(pairs[case] & missing))
        chosen.append(best)
        missing -= pairs[best]
    return chosen


def paired(cases, *axes):
    """Parameters for `pytest.mark.parametrize`: those of `covering`, and the others marked `nightly`.

    Args:
        cases: tuples of hashable values; or the first axis of a product.
        axes: the other axes.
    """
    cases = list(product(cases, *axes)) if axes else list(cases)
    chosen = set(covering(cases))
    return [pytest.param(*case, marks=() if case in chosen else pytest.mark.nightly) for case in cases]
