"""What is written in a shape is what the shape says by hand, and reads back as what it was, in every kind of file."""

import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructloop.core.records import CATEGORIES
from instructloop.core.transcripts import Turn, transcript, turns_of
from instructloop.formats.converting import convert
from instructloop.formats.given import (
    GivenCompletion,
    GivenDemonstration,
    GivenPrompt,
    GivenRanking,
    Unfit,
    in_tiers,
)
from instructloop.formats.rows import read_rows, write_rows
from instructloop.formats.writing import WRITTEN, fields_of, pairs_of

LONG = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]


def ranking(*tiers: tuple[str, ...], prompt: str = "q") -> GivenRanking:
    return GivenRanking(GivenPrompt(prompt), tuple(tuple(GivenCompletion(text) for text in tier) for tier in tiers))


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("label", "shape", "chat", "row"),
    [
        (ranking(("x",), ("y",)), "pairs", False, {"prompt": "q", "chosen": "x", "rejected": "y"}),
        (
            ranking(("x",), ("y",), prompt=LONG),
            "pairs",
            True,
            {"prompt": TALK, "chosen": [said("x")], "rejected": [said("y")]},
        ),
        (
            ranking(("x",), ("y",), prompt=LONG),
            "hh",
            False,
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: x",
                "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: y",
            },
        ),
        (
            ranking(("x",), ("y",)),
            "hh",
            True,
            {
                "chosen": [{"role": "user", "content": "q"}, said("x")],
                "rejected": [{"role": "user", "content": "q"}, said("y")],
            },
        ),
        (
            ranking(("x",), ("y", "z")),
            "kwise",
            False,
            {
                "prompt": "q",
                "completions": [
                    {"rank": 1, "completion": "x"},
                    {"rank": 2, "completion": "y"},
                    {"rank": 2, "completion": "z"},
                ],
            },
        ),
        (
            GivenDemonstration(GivenPrompt(LONG, "u", "chat", {"id": 1}), "d", "ann"),
            "messages",
            False,
            {"messages": [*TALK, said("d")], "labeler": "ann", "user": "u", "category": "chat", "id": 1},
        ),
        (
            GivenDemonstration(GivenPrompt("q"), "d"),
            "prompt_completion",
            True,
            {"prompt": [{"role": "user", "content": "q"}], "completion": [said("d")]},
        ),
    ],
)
def test_a_label_is_written_as_trainers_read_it(label, shape: str, chat: bool, row: dict):
    assert fields_of(label, shape, chat=chat) == row


def test_what_is_known_of_each_completion_goes_along():
    better, worse = GivenCompletion("x", "sft", 6, {"votes": 3}), GivenCompletion("y", None, 2)
    assert fields_of(GivenRanking(GivenPrompt("q"), ((better,), (worse,)), "ann"), "pairs", chat=False) == {
        "prompt": "q",
        "chosen": "x",
        "chosen_policy": "sft",
        "chosen_rating": 6,
        "chosen_votes": 3,
        "rejected": "y",
        "rejected_rating": 2,
        "labeler": "ann",
    }


def test_pairs_of_a_ranking_leave_ties_and_equal_texts_out():
    pairs = [tuple(one.text for one in pair.completions) for pair in pairs_of(ranking(("a",), ("b", "c"), ("a", "d")))]
    # a > b, a > c, a > d (a > a says nothing), then b and c, which tie, over a and d
    assert pairs == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "a"), ("b", "d"), ("c", "a"), ("c", "d")]


def test_what_a_shape_cannot_hold_is_unfit():
    for bad in (ranking(("x", "y")), ranking(("x",), ("y",), ("z",))):
        with pytest.raises(Unfit, match="not a pair"):
            fields_of(bad, "pairs", chat=False)
    with pytest.raises(Unfit, match="differ before their last turn"):
        fields_of(ranking(("x\n\nAssistant: z",), ("y",)), "hh", chat=False)
    with pytest.raises(Unfit, match="rejected is blank"):
        fields_of(ranking(("x",), ("",)), "pairs", chat=False)
    named_alike = GivenRanking(GivenPrompt("q", beside={"chosen": "!"}), ranking(("x",), ("y",)).tiers)
    with pytest.raises(Unfit, match="shape pairs cannot hold it"):
        fields_of(named_alike, "pairs", chat=False)


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
MARKED = st.lists(st.sampled_from(["a", "\n\nHuman: ", "\n\nAssistant: ", " ", "[{", "é"]), min_size=1, max_size=4).map(
    "".join
)
ANY = (TEXTS | MARKED).filter(str.strip)
TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant", "system"]), ANY), min_size=1, max_size=3)
PROMPTS = (
    (ANY | TURNS.map(transcript)).map(lambda text: transcript(turns_of(text))).filter(str.strip)
)  # in the one form that the store has
NAMES = st.none() | st.text("abc1 ", min_size=1, max_size=4).filter(str.strip)
ABOUT = st.dictionaries(
    st.sampled_from(["id", "batch", "label_id"]), st.text("xyz-", min_size=1, max_size=4), max_size=2
)
ASKED = st.builds(GivenPrompt, PROMPTS, NAMES, st.none() | st.sampled_from(CATEGORIES), ABOUT)
DEMONSTRATIONS = st.builds(GivenDemonstration, ASKED, ANY, NAMES)
EACH = st.builds(GivenCompletion, ANY, NAMES, st.none() | st.integers(1, 7))


@st.composite
def rankings(draw, most: int = 4) -> GivenRanking:
    completions = draw(st.lists(EACH, min_size=2, max_size=most, unique_by=lambda one: one.text))
    worth = draw(st.lists(st.integers(1, 3), min_size=len(completions), max_size=len(completions)))
    return GivenRanking(draw(ASKED), in_tiers(completions, worth), draw(NAMES))


PAIRS = rankings(2).filter(lambda one: len(one.tiers) == 2)
LABELS = {
    "pairs": PAIRS,
    "hh": PAIRS,
    "kwise": rankings(),
    "prompt_completion": DEMONSTRATIONS,
    "messages": DEMONSTRATIONS,
}
SHAPES = [(kind, shape, chat) for kind in WRITTEN for shape in WRITTEN[kind] for chat in (False, True)]
FILES = ["a.jsonl", "a.csv", "a.tsv.gz"] + (["a.parquet"] if importlib.util.find_spec("pyarrow") else [])


@pytest.mark.parametrize(("kind", "shape", "chat"), SHAPES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_import_of_export_is_what_it_was(kind, shape: str, chat: bool, tmp_path: Path, data: st.DataObject):
    """For any labels, in any file. What only text files confuse, a plain text that is JSON, is left to messages."""
    written = []
    for label in data.draw(st.lists(LABELS[shape], min_size=1, max_size=4)):
        try:
            written.append((label, fields_of(label, shape, chat=chat)))
        except Unfit:
            assert re.search(r"(Human|Assistant|System):", repr(label)), "only a speaker's mark may stop it"
    for name in FILES if written else []:
        write_rows(tmp_path / name, [row for _, row in written])
        found = convert(read_rows(str(tmp_path / name)), kind, source=name)
        assert found.shape == shape
        assert found.dropped == []
        assert [label for _, label in found.kept] == [label for label, _ in written]
