import pytest

from metaopt.export.schedule import factor_at

FACTORS = [1.0, 3.0, 2.0]


def along(steps, beyond, length=3):
    return [factor_at(FACTORS, step, length, beyond) for step in range(steps)]


def test_within_the_horizon_factors_are_those_that_were_learned():
    assert along(3, "hold") == along(3, "decay") == along(3, "stretch") == FACTORS


def test_beyond_it_the_last_one_holds_or_decays():
    assert along(5, "hold")[3:] == [2.0, 2.0]
    assert along(6, "decay")[3:] == [2.0 * 3 / 4, 2.0 * 3 / 5, 2.0 * 3 / 6]


def test_a_stretched_schedule_takes_the_whole_training():
    assert along(6, "stretch", 5) == pytest.approx([1.0, 2.0, 3.0, 2.5, 2.0, 2.0])
    assert along(2, "stretch", 2) == [1.0, 2.0]
    assert along(3, "stretch", 1) == [1.0, 2.0, 2.0]


def test_no_schedule_is_a_factor_of_one():
    assert factor_at(None, 7, 3, "decay") == 1.0
