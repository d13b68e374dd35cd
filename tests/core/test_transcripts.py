"""Conversations as one text: what is written is what is read, and plain prompts stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.core.transcripts import Turn, last_turn, transcript, turns_of

PIECES = st.lists(st.sampled_from(["a", " ", "\n", "\n\n", "Human:", "Assistant:", "System: ", "x:"]), max_size=6)
TEXTS = PIECES.map("".join)


def test_one_turn_of_the_user_is_its_text():
    assert transcript([Turn("user", "why?")]) == "why?"
    assert turns_of("why?") == (Turn("user", "why?"),)


def test_several_turns_read_as_in_anthropic_hh():
    turns = (Turn("system", "be short"), Turn("user", "hi"), Turn("assistant", "yes?"), Turn("user", "why?"))
    text = "System: be short\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: why?\n\nAssistant:"
    assert transcript(turns) == text
    assert turns_of(text) == turns
    assert turns_of("\n\n" + text + " ") == turns


def test_blanks_and_line_breaks_inside_a_turn_stay():
    turns = (Turn("user", "a  \n\nb\n"), Turn("assistant", " c"), Turn("user", ""))
    assert turns_of(transcript(turns)) == turns


@pytest.mark.parametrize(
    "text", ["Human: is that a name?", "a\n\nHuman: b\n\nAssistant:", "Assistant:", "\n\nAssistant:"]
)
def test_text_that_only_looks_like_a_transcript_is_one_turn(text: str):
    assert turns_of(text) == (Turn("user", text),)


@given(TEXTS)
def test_the_canonical_text_is_a_fixed_point(text: str):
    once = transcript(turns_of(text))
    assert transcript(turns_of(once)) == once


@given(st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), st.text("ab \n", max_size=5)), min_size=2))
def test_turns_without_a_mark_inside_come_back(turns: list[Turn]):
    assert list(turns_of(transcript(turns))) == turns


def test_a_conversation_without_turns_is_refused():
    with pytest.raises(ValueError, match="no turn"):
        transcript([])


def test_the_last_turn_is_split_off_where_the_assistant_spoke_last():
    assert last_turn("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d\n\ne") == (
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
        "d\n\ne",
    )
    assert last_turn("\n\nHuman: a\n\nAssistant: b\n\nHuman: c") is None
    assert last_turn("plain") is None
    assert last_turn("\n\nAssistant: to nobody") is None
