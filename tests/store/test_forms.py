"""The comparison form: its normal form, what it refuses, and the order of presentation."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.core.records import FLAGS
from instructloop.store import ComparisonForm
from instructloop.store.forms import checked_form, checked_tiers, presentation_order

SHOWN = ("c1", "c2", "c3")


@pytest.mark.parametrize(
    ("tiers", "problem"),
    [
        ([["c1"], ["c2"]], "c3 is not ranked"),
        ([["c1"], ["c2"], ["c3"], ["c1"]], "c1 is ranked twice"),
        ([["c1", "c1"], ["c2"], ["c3"]], "c1 is ranked twice"),
        ([["c1"], ["c2"], ["c3", "c4"]], "c4 was not shown"),
        ([], "c1 is not ranked"),
    ],
)
def test_a_ranking_covers_exactly_what_was_shown(tiers, problem):
    with pytest.raises(ValueError, match=problem):
        checked_tiers(tiers, SHOWN)


def test_a_tie_has_no_order_and_an_empty_rank_no_meaning():
    assert checked_tiers([[], ["c3", "c1"], [], ["c2"]], SHOWN) == (("c1", "c3"), ("c2",))
    assert checked_tiers([["c1", "c3"], ["c2"]], SHOWN) == (("c1", "c3"), ("c2",))


@given(st.permutations(SHOWN), st.lists(st.booleans(), min_size=2, max_size=2))
def test_every_weak_order_is_accepted_and_kept(order, ties):
    tiers = [[order[0]]]
    for key, is_tied in zip(order[1:], ties, strict=True):
        if is_tied:
            tiers[-1].append(key)
        else:
            tiers.append([key])
    assert [set(tier) for tier in checked_tiers(tiers, SHOWN)] == [set(tier) for tier in tiers]


@pytest.mark.parametrize("rating", [0, 8, -1, 3.0, "4", True])
def test_a_rating_is_a_whole_number_from_one_to_seven(rating):
    form = ComparisonForm(ratings={"c1": rating}, flags={}, tiers=[SHOWN])
    with pytest.raises(ValueError, match=r"rating .* of completion c1 must be a whole number from 1 to 7"):
        checked_form(form, SHOWN)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"c1": {"rude": True}}, "flag 'rude' of completion c1 must be one of fails_instruction"),
        ({"c1": {"hallucination": 0}}, "flag hallucination of completion c1 is 0; it must be true, false or null"),
        ({"c9": {}}, "flags: completion c9 was not shown"),
    ],
)
def test_a_flag_is_a_known_question_with_yes_no_or_nothing(flags, problem):
    with pytest.raises(ValueError, match=problem):
        checked_form(ComparisonForm(ratings={}, flags=flags, tiers=[SHOWN]), SHOWN)


def test_notes_and_ratings_belong_to_what_was_shown():
    for changes in ({"ratings": {"c9": 1}}, {"notes": {"c9": "hm"}}):
        form = ComparisonForm(**({"ratings": {}, "flags": {}, "tiers": [SHOWN]} | changes))
        with pytest.raises(ValueError, match="completion c9 was not shown"):
            checked_form(form, SHOWN)


def test_a_blank_form_has_all_questions_unanswered():
    _, rows = checked_form(ComparisonForm(ratings={}, flags={}, tiers=[SHOWN]), SHOWN)
    unanswered = dict.fromkeys(FLAGS)
    assert rows == [{"completion_id": key, "rating": None, "flags": unanswered, "note": None} for key in SHOWN]


def test_presentation_is_a_fixed_shuffle_of_task_and_labeler():
    order = presentation_order("t", "l", SHOWN)
    assert order == presentation_order("t", "l", reversed(SHOWN))
    assert sorted(order) == list(SHOWN)


def test_every_order_is_equally_likely():
    counts = Counter(tuple(presentation_order(f"t{i}", "l", SHOWN)) for i in range(6000))
    assert len(counts) == 6
    # 1000 each are expected; chi-square with 5 degrees of freedom exceeds 20.5 once in a thousand
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 20.5
