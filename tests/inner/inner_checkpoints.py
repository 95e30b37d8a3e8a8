"""What the best checkpointing costs, by dynamic programming over all cuts and by search through all that could be done.

A segment has a step more than the training: the query loss behind the last one, which needs the end of the training.
"""

import heapq
import math
from functools import cache


@cache
def fewest_trainings(steps, slots):
    """Steps trained, in all, to go back through a segment whose beginning is in one of the slots."""
    if steps == 1:
        return 0
    if slots == 0:
        return math.inf
    return min(cut + fewest_trainings(cut, slots) + fewest_trainings(steps - cut, slots - 1) for cut in range(1, steps))


@cache
def fewest_times(steps, slots):
    """How often the step is trained that is trained most often, if that is to be as rarely as possible."""
    if steps == 1:
        return 0
    if slots == 0:
        return math.inf
    return min(max(1 + fewest_times(cut, slots), fewest_times(steps - cut, slots - 1)) for cut in range(1, steps))


def fewest_of_any_order(steps, slots):
    """As `fewest_trainings`, by Dijkstra's search, for whatever may be stored, fetched, dropped and trained whenever.

    A state is what is stored, what is at hand, and how many steps are still to go back through.
    """
    start = (frozenset(), 0, steps)
    best, queue = {start: 0}, [(0, 0, start)]
    while queue:
        cost, _, state = heapq.heappop(queue)
        stored, here, left = state
        if left == 0:
            return cost
        if cost > best[state]:
            continue
        found = [(cost, (stored, there, left)) for there in stored]
        found += [(cost, (stored - {there}, here, left)) for there in stored]
        if len(stored) < slots:
            found.append((cost, (stored | {here}, here, left)))
        if here < left - 1:
            found.append((cost + 1, (stored, here + 1, left)))
        if here == left - 1:
            found.append((cost, (stored, here, left - 1)))
        for spent, then in found:
            if spent < best.get(then, math.inf):
                best[then] = spent
                heapq.heappush(queue, (spent, len(best), then))
    return math.inf
