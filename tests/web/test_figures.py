"""Where marks stand on plots: places by hand, on a canvas of 640 x 240 with margins 52, 14, 14, 34."""

import math

import pytest

from instructloop.core.rankings import Interval
from instructloop.web import figures


def marks(plot: figures.Plot, tag: str, kind: str) -> list[figures.Mark]:
    return [mark for mark in plot.marks if mark.tag == tag and mark.kind == kind]


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),  # 1 / 5 = .2
        (4, [0, 1, 2, 3, 4]),  # 4 / 5 = .8, the next of 1, 2, 5 is 1
        (7, [0, 2, 4, 6, 8]),  # 1.4 -> 2, up to the first at least 7
        (600, [0, 200, 400, 600]),  # 120 -> 200
        (23, [0, 5, 10, 15, 20, 25]),
    ],
)
def test_ticks_are_round_and_reach_the_top(top: float, ticks: list[float]):
    assert figures.nice_ticks(top) == pytest.approx(ticks)


def test_a_scale_is_linear_and_keeps_to_its_ends():
    scale = figures.Scale(0.5, 1.0, 100.0, 200.0)
    assert [scale(0.5), scale(0.75), scale(1.0)] == [100, 150, 200]
    assert [scale(0.1), scale(3)] == [100, 200]


def test_a_strip_puts_estimate_interval_and_cut_off_on_one_line():
    # The line goes from 4 to 124: a share s stands at 4 + 120 s.
    plot = figures.strip(Interval(0.8, 0.7, 0.85, 40, 10), reference=0.75)
    assert marks(plot, "circle", "dot")[0].at["cx"] == 100  # 4 + 96
    whisker = marks(plot, "line", "whisker")[0].at
    assert (whisker["x1"], whisker["x2"]) == (88, 106)
    assert marks(plot, "line", "reference")[0].at["x1"] == 94
    assert "0.80" in plot.summary
    assert "0.70 to 0.85" in plot.summary


def test_an_interval_without_an_end_reaches_to_the_end_of_its_scale():
    plot = figures.strip(Interval(4.0, -math.inf, math.inf, 1, 1), bounds=(1.0, 7.0))
    whisker = marks(plot, "line", "whisker")[0].at
    assert (whisker["x1"], whisker["x2"]) == (4, 124)
    assert marks(plot, "circle", "dot")[0].at["cx"] == 64  # half-way


def test_columns_stack_and_end_where_their_sum_is():
    # Ticks 0, 2, 4, 6, 8; the axis goes from y = 206 up to 14: one judgement is 192 / 8 = 24 high.
    plot = figures.columns(
        [("Mon", {"train": 3, "heldout": 4}), ("Tue", {"heldout": 1})], series=["train", "heldout"], summary=""
    )
    train, heldout = marks(plot, "rect", "series-0"), marks(plot, "rect", "series-1")
    assert [(one.at["y"], one.at["height"]) for one in train] == [(134, 72)]
    assert [(one.at["y"], one.at["height"]) for one in heldout] == [(38, 96), (182, 24)]
    assert train[0].text == "Mon, train: 3"
    assert train[0].at["x"] == heldout[0].at["x"] != heldout[1].at["x"]


def test_points_in_time_stand_in_the_middle_of_their_share_of_the_width():
    # Two points share 640 - 52 - 14 = 574: their middles are 52 + 143.5 and 52 + 430.5.
    weeks = [("05 Jan", Interval(0.5, 0.4, 0.6, 9, 3)), ("12 Jan", Interval(1.0, 0.9, 1.0, 9, 3))]
    plot = figures.over_time(weeks, summary="", references={"paper": 0.75}, axis=[0.0, 0.5, 1.0])
    dots = marks(plot, "circle", "dot")
    assert [(dot.at["cx"], dot.at["cy"]) for dot in dots] == [(195.5, 110), (482.5, 14)]
    assert marks(plot, "polyline", "path")[0].at["points"] == "195.5,110.0 482.5,14.0"
    assert marks(plot, "line", "reference")[0].at["y1"] == 62  # 206 - .75 * 192


def test_the_last_label_of_a_long_axis_is_always_there():
    assert figures.shown_labels(30) == {29, 25, 21, 17, 13, 9, 5, 1}  # every ceil(30 / 8) = 4th, counted from the end
    assert figures.shown_labels(3) == {0, 1, 2}
    assert figures.shown_labels(0) == set()


def test_dots_of_a_scatter_carry_the_names():
    plot = figures.scatter([(50, 0.75, "Ann")], summary="", across="seconds", axis=[0.5, 1.0], up="agreement")
    (dot,) = marks(plot, "circle", "dot")
    # Ticks to 50 in tens; 50 stands at the right end, .75 half-way between y = 206 and 28.
    assert (dot.at["cx"], dot.at["cy"], dot.text) == (626, 117, "Ann")
