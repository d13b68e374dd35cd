"""Every shape of the ecosystem becomes what it says, and a row that cannot be taken says why."""

import contextlib

import pytest
from hypothesis import given as such_as
from hypothesis import settings
from hypothesis import strategies as st

from instructloop.formats.given import (
    GivenCompletion,
    GivenDemonstration,
    GivenPrompt,
    GivenRanking,
    GivenText,
    Unfit,
)
from instructloop.formats.reading import given
from instructloop.formats.shapes import SHAPES, recognise, renamed

TALK = [{"role": "user", "content": "q"}]
LONG = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
LONG_TEXT = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"


def pair(better: str, worse: str, prompt: str = "q", **about) -> GivenRanking:
    return GivenRanking(GivenPrompt(prompt), ((GivenCompletion(better),), (GivenCompletion(worse),)), **about)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("fields", "shape", "expected"),
    [
        ({"prompt": "q", "chosen": "x", "rejected": "y"}, "pairs", pair("x", "y")),
        ({"prompt": TALK, "chosen": said("x"), "rejected": said("y")}, "pairs", pair("x", "y")),
        ({"prompt": LONG, "chosen": said("x"), "rejected": "y"}, "pairs", pair("x", "y", LONG_TEXT)),
        ({"chosen": "\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: q\n\nAssistant: y"}, "hh", pair("x", "y")),
        ({"chosen": [*LONG, *said("x")], "rejected": [*LONG, *said("y")]}, "hh", pair("x", "y", LONG_TEXT)),
        (
            {"context": "q", "completions": [{"rank": 2, "completion": "y"}, {"rank": 1, "completion": "x"}]},
            "kwise",
            pair("x", "y"),
        ),
        ({"prompt": [{"role": "prompter", "text": "q"}], "ranked": ["x", "y"]}, "ranked", pair("x", "y")),
        (
            {"prompt": "q", "chosen": "x", "rejected": "y", "labeler": 7, "user": None},
            "pairs",
            pair("x", "y", labeler="7"),
        ),
    ],
)
def test_every_shape_of_a_pair_says_the_same(fields: dict, shape: str, expected: GivenRanking):
    fields = renamed(fields, {})
    assert recognise("rankings", fields) == shape
    assert given("rankings", shape, fields) == expected


def test_equal_ranks_are_ties():
    ranked = [{"rank": 2, "completion": "b"}, {"rank": 1, "completion": "c"}, {"rank": 2.0, "completion": "a"}]
    found = given("rankings", "kwise", {"prompt": "q", "completions": ranked})
    assert isinstance(found, GivenRanking)
    assert [[one.text for one in tier] for tier in found.tiers] == [["c"], ["a", "b"]]


def test_equal_votes_are_ties_and_lists_beside_go_with_their_completion():
    row = {"prompt": "q", "ranked": ["a", "b", "c"], "votes": [3, 1, 3], "accepted": [False, False, True], "id": "i"}
    found = given("rankings", "ranked", row)
    assert isinstance(found, GivenRanking)
    assert found.tiers == (
        (
            GivenCompletion("a", beside={"votes": 3, "accepted": False}),
            GivenCompletion("c", beside={"votes": 3, "accepted": True}),
        ),
        (GivenCompletion("b", beside={"votes": 1, "accepted": False}),),
    )
    assert found.prompt.beside == {"id": "i"}


def test_the_most_votes_win_equally_many_tie_and_none_rank_nothing():
    row = {"prompt": "q", "a": "x", "b": "y", "votes_a": 1, "votes_b": 4}
    found = given("rankings", "votes", row)
    assert isinstance(found, GivenRanking)
    assert [[(one.text, one.beside) for one in tier] for tier in found.tiers] == [
        [("y", {"votes": 4})],
        [("x", {"votes": 1})],
    ]
    tied = given("rankings", "votes", row | {"votes_b": "1"})
    assert isinstance(tied, GivenRanking)
    assert [len(tier) for tier in tied.tiers] == [2]
    with pytest.raises(Unfit, match="nobody voted"):
        given("rankings", "votes", row | {"votes_a": 0, "votes_b": 0})


def test_a_demonstration_as_text_as_messages_and_in_the_words_of_sharegpt():
    expected = GivenDemonstration(GivenPrompt(LONG_TEXT), "d")
    shared = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]
    for fields in (
        {"prompt": f"\n\n{LONG_TEXT}", "completion": "d"},
        {"prompt": LONG, "completion": said("d")},
        {"messages": [*LONG, *said("d")]},
        {"conversations": [*shared, {"from": "gpt", "value": "d"}]},
    ):
        own = renamed(fields, {})
        shape = recognise("demonstrations", own)
        assert shape is not None
        assert given("demonstrations", shape, own) == expected


def test_text_and_prompts_keep_who_asked_and_what_stands_beside():
    assert given("text", "text", {"text": "t\n", "file": "f"}) == GivenText("t\n", {"file": "f"})
    row = {"prompt": "q", "user": "u", "category": "chat", "x": None}
    assert given("prompts", "prompt", row) == GivenPrompt("q", "u", "chat")
    assert given("prompts", "prompt", row | {"category": "generic"}) == GivenPrompt(
        "q", "u", None, {"category": "generic"}
    )


def test_a_frozen_ranking_gives_up_its_ids_and_keeps_ratings_flags_and_the_order_shown():
    row = {
        "prompt": "q",
        "completions": [{"id": "1", "text": "x", "policy": "sft"}, {"id": "2", "text": "y", "policy": "unknown"}],
        "tiers": [["2"], ["1"]],
        "ratings": {"1": None, "2": 6},
        "flags": {"1": {"hallucination": True, "sexual_content": None}, "2": {}},
        "shown": ["2", "1"],
    }
    found = given("rankings", "judgements", row)
    assert isinstance(found, GivenRanking)
    assert found.completions == (
        GivenCompletion("y", None, 6, {"shown": 0}),
        GivenCompletion("x", "sft", None, {"flags": {"hallucination": True}, "shown": 1}),
    )


def test_a_blank_prompt_gets_the_one_that_is_named():
    row = {"prompt": " ", "chosen": "x", "rejected": "y"}
    assert given("rankings", "pairs", row, prompt="q") == pair("x", "y")
    with pytest.raises(Unfit, match="prompt is blank: --prompt TEXT"):
        given("rankings", "pairs", row)


@pytest.mark.parametrize(
    ("kind", "shape", "fields", "reason"),
    [
        ("demonstrations", "prompt_completion", {"prompt": "q"}, "completion is missing"),
        ("demonstrations", "prompt_completion", {"prompt": "q", "completion": None}, "completion is missing"),
        ("demonstrations", "prompt_completion", {"prompt": "q", "completion": " \n"}, "completion is blank"),
        ("demonstrations", "prompt_completion", {"prompt": "q", "completion": 3}, "completion is no list of messages"),
        ("demonstrations", "prompt_completion", {"prompt": 3, "completion": "c"}, "prompt is no list of messages"),
        ("demonstrations", "prompt_completion", {"prompt": "q\0", "completion": "c"}, "prompt holds a NUL character"),
        ("demonstrations", "prompt_completion", {"prompt": "q", "completion": "\ud800"}, "completion is not valid"),
        (
            "demonstrations",
            "prompt_completion",
            {"prompt": "x" * 1_000_001, "completion": "c"},
            "prompt is longer than",
        ),
        (
            "demonstrations",
            "prompt_completion",
            {"prompt": "q", "completion": "c", "labeler": []},
            "labeler is no name",
        ),
        (
            "demonstrations",
            "prompt_completion",
            {"prompt": [{"role": "robot"}], "completion": "c"},
            "prompt: a role is",
        ),
        ("demonstrations", "prompt_completion", {"prompt": [{"role": []}], "completion": "c"}, "prompt: a role is"),
        ("demonstrations", "messages", {"messages": LONG}, "messages do not end with the assistant"),
        ("demonstrations", "messages", {"messages": said("x")}, "messages hold no prompt"),
        ("demonstrations", "messages", {"messages": [*TALK, {"role": "assistant", "content": None}]}, "the content of"),
        (
            "demonstrations",
            "messages",
            {"messages": [{"role": "user", "content": "a\n\nHuman: b\n\nAssistant:"}, *LONG, *said("x")]},
            "a message holds the mark of another speaker",
        ),
        ("rankings", "pairs", {"prompt": "q", "chosen": "x", "rejected": ""}, "rejected is blank"),
        ("rankings", "pairs", {"prompt": "q", "chosen": LONG, "rejected": "y"}, "chosen is not one message of the"),
        ("rankings", "hh", {"chosen": "x", "rejected": "y"}, "chosen does not end with what the assistant said"),
        (
            "rankings",
            "hh",
            {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
            "chosen and rejected differ before their last turn",
        ),
        ("rankings", "kwise", {"prompt": "q", "completions": [{"rank": 1, "completion": "x"}]}, "fewer than 2"),
        ("rankings", "kwise", {"prompt": "q", "completions": ["x", "y"]}, "without rank and completion"),
        ("rankings", "kwise", {"prompt": "q", "completions": "xy"}, "completions is no list"),
        (
            "rankings",
            "kwise",
            {"prompt": "q", "completions": [{"rank": True, "completion": "x"}, {"rank": 2, "completion": "y"}]},
            "rank is no number",
        ),
        ("rankings", "ranked", {"prompt": "q", "ranked": ["x", "y"], "votes": [1]}, "votes are not as many"),
        ("rankings", "votes", {"prompt": "q", "a": "x", "b": "y", "votes_a": "many", "votes_b": 1}, "votes_a is no"),
        (
            "rankings",
            "judgements",
            {"prompt": "q", "completions": [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}], "tiers": [["1"]]},
            "tiers do not cover",
        ),
    ],
)
def test_what_cannot_be_taken_says_field_and_rule(kind, shape, fields, reason: str):
    with pytest.raises(Unfit, match=reason):
        given(kind, shape, fields)


WORDS = sorted({name for shapes in SHAPES.values() for names in shapes.values() for name in names})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just("\n\nHuman: a\n\nAssistant: b"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "rank", "completion", "id", "text"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROLES = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", 1, None]), "content": JSON})
FIELDS = st.dictionaries(
    st.sampled_from([*WORDS, "labeler", "user", "ratings", "flags", "shown"]), JSON | st.lists(ROLES)
)


@pytest.mark.parametrize(("kind", "shape"), [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes])
@settings(max_examples=25, deadline=None)
@such_as(FIELDS)
def test_whatever_a_row_holds_it_is_taken_or_unfit(kind, shape: str, fields: dict):
    with contextlib.suppress(Unfit):
        assert given(kind, shape, fields) is not None
