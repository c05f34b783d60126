"""How far a value must exceed the largest earlier values to be reported."""

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.chimera.quality.outliers import MIN_HOURS, TIMES, limit

COSTS = [0.06, 0.31, 0.05, 0.08, 2.74, 0.07, 0.04, 0.09]
values = st.floats(0, 1e12)


def test_the_first_outlier_lies_beyond_the_limit() -> None:
    """The real one cost 9,990.01 USD; the next dearest of two years 2.74."""
    assert limit(COSTS, 0.01) < 9990.01
    assert limit([*COSTS, 9990.01], 0.01) < 100


def test_a_heavy_tail_lies_within_it() -> None:
    """The limit uses logarithms: these hours differ by factors, and so may the next one."""
    tail = [10.0**exponent for exponent in (0, 1, 2, 3, 4, 1, 2, 3)]
    assert limit(tail, 0.01) > 1e6


@pytest.mark.parametrize("same", [0.0, -5.0, 0.01, 3.0])
def test_equal_hours_have_no_spread_and_a_limit_all_the_same(same: float) -> None:
    """A deviation of zero can't be a divisor; zero has no logarithm."""
    assert limit([same] * MIN_HOURS, 0.01) == pytest.approx(TIMES * max(same, 0.01))


@given(st.lists(values, max_size=MIN_HOURS - 1))
def test_few_hours_prove_nothing(former: list[float]) -> None:
    assert limit(former, 1.0) is None


@given(st.lists(values, min_size=MIN_HOURS, max_size=336), st.floats(1e-6, 1e6))
def test_the_limit_is_a_number_that_half_of_the_hours_keep(former, floor) -> None:
    """Whatever the history, at least half of its hours would be usual again."""
    found = limit(former, floor)
    assert isfinite(found)
    assert sum(value <= found for value in former) * 2 >= len(former)


@given(st.lists(st.floats(1, 100), min_size=9, max_size=9), st.lists(values, max_size=4))
def test_outliers_in_fewer_than_half_of_the_hours_move_no_limit_far(calm, wild) -> None:
    """A wrong price for four hours does not teach that wrong prices are usual."""
    assert limit([*calm, *wild], 1.0) <= 100 * 100 ** (6 * 1.4826) * TIMES
