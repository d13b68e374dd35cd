"""A loss per token is a ratio of sums; its interval is that of the linearised ratio, clusters drawn whole."""

import math

import pytest

from instructloop.core.rankings import mean_interval, ratio_interval


def test_the_ratio_is_of_the_sums_and_its_spread_that_of_the_residuals():
    found = ratio_interval([2.0, 4.0], [1, 3], ["a", "b"])
    # 6 / 4 = 1.5; residuals 2 - 1.5 = .5 and 4 - 4.5 = -.5, over the mean count 2: .25 and -.25
    variance = (0.25**2 + 0.25**2) / 2**2 * 2  # of the mean of two, times G / (G - 1)
    assert (found.value, found.n, found.n_clusters) == (1.5, 2, 2)
    assert found.high == pytest.approx(1.5 + 12.7062 * math.sqrt(variance), rel=1e-5)  # Student's, one degree


def test_rows_of_one_cluster_count_as_one_draw():
    totals, counts = [3.0, 1.0, 4.0, 2.0], [2, 2, 3, 1]
    twice = ratio_interval([*totals, *totals], [*counts, *counts], [0, 1, 2, 3] * 2)
    once = ratio_interval(totals, counts, range(4))
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    assert twice.high - twice.low > 1.2 * _apart(totals, counts)


def _apart(totals: list[float], counts: list[int]) -> float:
    found = ratio_interval([*totals, *totals], [*counts, *counts], range(8))
    return found.high - found.low


def test_with_equal_counts_it_is_the_interval_of_a_mean():
    values = [1.0, 5.0, 2.0, 2.5]
    same = ratio_interval([3 * value for value in values], [3] * 4, "abca")
    mean = mean_interval(values, "abca")
    assert (same.value, same.low, same.high) == pytest.approx((mean.value, mean.low, mean.high))


def test_rows_without_a_count_are_left_out():
    assert ratio_interval([2.0, 0.0, 4.0], [1, 0, 3], "abc") == ratio_interval([2.0, 4.0], [1, 3], "ac")
    with pytest.raises(ValueError, match="at least one row with a count"):
        ratio_interval([0.0], [0], "a")
