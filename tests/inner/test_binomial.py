from functools import cache

import hypothesis
import pytest
from hypothesis import strategies as st
from inner_checkpoints import fewest_of_any_order, fewest_times, fewest_trainings

from metaopt.inner.binomial import first_part, longest, slots_for_two_trainings

SLOTS = range(1, 13)


@cache
def cost(steps, slots):
    """Steps trained to go back through a segment cut by `first_part`, and how often one is trained at most."""
    if steps == 1:
        return 0, 0
    assert slots > 0, "nothing is stored to begin from"
    cut = first_part(steps, slots)
    assert 1 <= cut < steps
    (earlier, again), (later, times) = cost(cut, slots), cost(steps - cut, slots - 1)
    return cut + earlier + later, max(1 + again, times)


@pytest.mark.parametrize("slots", SLOTS)
def test_no_other_cuts_train_fewer_steps_nor_any_step_less_often(slots):
    for steps in range(2, 62):
        assert cost(steps, slots) == (fewest_trainings(steps, slots), fewest_times(steps, slots)), steps


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("steps", range(1, 9))
def test_nor_does_any_other_order_of_storing_and_training(steps, slots):
    assert cost(steps, slots)[0] == fewest_of_any_order(steps, slots)


@pytest.mark.parametrize("slots", SLOTS)
def test_the_longest_segment_for_a_number_of_trainings_is_the_longest(slots):
    for times in range(4):
        steps = longest(slots, times)
        if steps < 100:
            assert fewest_times(steps, slots) == times
            assert fewest_times(steps + 1, slots) == times + 1


@pytest.mark.parametrize("horizon", range(1, 61))
def test_without_a_number_the_slots_are_the_fewest_for_two_trainings(horizon):
    slots = slots_for_two_trainings(horizon)
    assert fewest_times(horizon + 1, slots) <= 2
    assert fewest_times(horizon + 1, slots - 1) > 2


@hypothesis.given(st.integers(1, 10**30))
def test_so_are_those_of_the_formula(horizon):
    slots = slots_for_two_trainings(horizon)
    assert longest(slots, 2) == (slots + 1) * (slots + 2) // 2
    assert longest(slots - 1, 2) <= horizon < longest(slots, 2)


@hypothesis.given(st.integers(1, 2000), st.integers(0, 1000))
def test_as_many_slots_as_steps_or_more_train_nothing_twice(horizon, more):
    for steps in range(2, horizon + 2):
        assert first_part(steps, steps - 1 + more) == 1


def test_one_slot_trains_from_the_beginning_each_time():
    for steps in range(2, 100):
        assert first_part(steps, 1) == steps - 1


@pytest.mark.parametrize(
    ("horizon", "slots", "trained"),
    [(100, 13, 187), (100, 20, 180), (1000, 20, 2750), (1000, 44, 1956), (1000, 1000, 1000)],
)
def test_time_grows_slowly(horizon, slots, trained):
    steps, total = [(horizon + 1, slots)], 0
    while steps:  # not by recursion, which would be deep
        segment, free = steps.pop()
        if segment > 1:
            cut = first_part(segment, free)
            total += cut
            steps += [(cut, free), (segment - cut, free - 1)]
    assert total == trained
