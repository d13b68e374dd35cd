"""Ranks as posted by a form become tiers, or a sentence."""

import pytest

from instructloop.web.forms import named
from instructloop.web.ranks import RankError, letters, tiers_of


def test_the_same_rank_is_a_tie_and_gaps_close_up():
    assert tiers_of({"a": "3", "b": "1", "c": "3"}, ["a", "b", "c"]) == (("b",), ("a", "c"))


def test_a_completion_without_a_rank_is_named_as_missing():
    with pytest.raises(RankError, match="1 of 2 completions have no rank"):
        tiers_of({"a": "1", "b": ""}, ["a", "b"])
    with pytest.raises(RankError, match="1 of 2"):
        tiers_of({"a": "1"}, ["a", "b"])


@pytest.mark.parametrize("rank", ["0", "3", "-1", "1.0", "one", "\N{FULLWIDTH DIGIT ONE}", " 1", "1e0"])
def test_a_rank_outside_1_to_k_is_no_rank(rank: str):
    with pytest.raises(RankError):
        tiers_of({"a": "1", "b": rank}, ["a", "b"])


def test_ranks_of_another_task_are_refused():
    with pytest.raises(RankError, match="does not belong to this task"):
        tiers_of({"a": "1", "b": "2", "z": "1"}, ["a", "b"])


def test_fields_are_found_by_their_prefix():
    fields = {"csrf": "x", "rank-a": "1", "rank-b": "2", "reason": "y"}
    assert named(fields, "rank-") == {"a": "1", "b": "2"}


def test_nine_completions_have_nine_letters():
    assert "".join(letters([str(i) for i in range(9)]).values()) == "ABCDEFGHI"
