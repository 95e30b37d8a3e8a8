import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaopt.report.numbers import compact, decimals_for, distinct, fixed, share

FINITE = st.floats(-1e300, 1e300)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (0.12345, "0.123"),
        (-0.12345, "-0.123"),
        (9.999, "10.0"),  # rounding may add a digit
        (12345.6, "12346"),
        (123456.0, "1.23e5"),
        (0.00012345, "0.000123"),
        (0.000012345, "1.23e-5"),
        (math.inf, "inf"),
    ],
)
def test_compact(value, text):
    assert compact(value) == text


@given(FINITE, st.integers(1, 6))
def test_compact_is_short_and_true_to_its_digits(value, digits):
    text = compact(value, digits)
    assert len(text) <= digits + 7
    assert float(text) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits), abs=1e-320)


@given(FINITE, st.lists(FINITE, max_size=4))
def test_distinct_tells_the_first_from_all_that_differ_visibly(first, others):
    texts = distinct([first, *others])
    assert len(texts) == 1 + len(others)
    for value, text in zip(others, texts[1:], strict=True):
        assert text != texts[0] or math.isclose(first, value, rel_tol=1e-2, abs_tol=1e-300) or first in others


def test_distinct_takes_no_more_digits_than_it_needs():
    assert distinct([0.5, 0.9]) == ["0.50", "0.90"]
    assert distinct([0.5, 0.5004]) == ["0.5000", "0.5004"]
    assert distinct([0.5, 0.5]) == ["0.500", "0.500"]


@given(st.integers(1, 10_000), st.integers(0, 3), st.booleans())
def test_none_and_all_are_said_only_where_they_are_exact(tasks, half_wins, mirrored):
    rate = min(half_wins, 2 * tasks) / (2 * tasks)  # a tie counts half
    rate = 1 - rate if mirrored else rate
    assert (share(rate) == "0 %") == (rate == 0)
    assert (share(rate) == "100 %") == (rate == 1)


def test_shares_in_between_are_whole_per_cent():
    assert [share(rate) for rate in (0.004, 0.005, 0.006, 0.5, 0.994, 0.996)] == [
        "<1 %",
        "<1 %",
        "1 %",
        "50 %",
        "99 %",
        ">99 %",
    ]


def test_decimals_show_two_digits_of_the_narrowest_interval():
    assert decimals_for([0.3, 0.012]) == 3
    assert decimals_for([5.0]) == 2
    assert decimals_for([1e-9]) == 5
    assert decimals_for([]) == decimals_for([0.0, math.inf]) == 3


@given(FINITE, st.integers(0, 5))
def test_fixed_stays_narrow_and_shows_its_sign(value, decimals):
    text = fixed(value, decimals, "+")
    assert len(text) <= 10
    assert text.startswith("-" if math.copysign(1.0, value) < 0 else ("+" if float(text) > 0 else ("+", "0")))
