from itertools import combinations, product

import pytest
from pairs import covering, paired

AXES = ("abc", range(4), (True, False), "xyz")


def test_every_pair_comes_up_in_a_few_cases():
    cases = list(product(*AXES))
    chosen = covering(cases)
    assert set(chosen) <= set(cases)
    assert len(chosen) <= 16 < len(cases) == 72
    for (i, one), (j, other) in combinations(enumerate(AXES), 2):
        assert {(case[i], case[j]) for case in chosen} == set(product(one, other))


def test_what_is_left_out_of_the_cases_is_not_asked_for():
    cases = [case for case in product(*AXES) if case[:2] != ("a", 0)]
    assert not [case for case in covering(cases) if case[:2] == ("a", 0)]
    assert ("a", 1) in {case[:2] for case in covering(cases)}


def test_all_cases_stay_and_the_others_are_for_the_night():
    found = paired(*AXES)
    assert [case.values for case in found] == list(product(*AXES))
    by_day = [case.values for case in found if not case.marks]
    assert by_day == [case for case in product(*AXES) if case in covering(list(product(*AXES)))]
    assert {mark.name for case in found for mark in case.marks} == {"nightly"}
    with pytest.raises(TypeError):
        paired([1, 2])
