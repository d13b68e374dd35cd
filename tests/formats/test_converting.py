"""A source as a whole: its shape is recognised or named, each of its rows is kept or counted."""

import pytest

from instructloop.formats.converting import convert
from instructloop.formats.given import GivenRanking
from instructloop.formats.lines import Row

PAIR = {"prompt": "q", "chosen": "x", "rejected": "y"}
KWISE = {"prompt": "q", "completions": [{"rank": 1, "completion": "x"}, {"rank": 2, "completion": "y"}]}


def numbered(*fields: dict | str) -> list[Row]:
    return [Row(n, problem=f) if isinstance(f, str) else Row(n, f) for n, f in enumerate(fields, start=1)]


def test_every_row_is_kept_or_dropped_for_a_reason():
    rows = numbered(
        "not JSON", PAIR, {**PAIR, "chosen": ""}, {"prompt": "q", "chosen": "x"}, PAIR | {"id": 1}, "not JSON"
    )
    found = convert(rows, "rankings", source="f")
    assert found.shape == "pairs"
    assert [number for number, _ in found.kept] == [2, 5]
    assert found.dropped == [(1, "not JSON"), (3, "chosen is blank"), (4, "rejected is missing"), (6, "not JSON")]
    assert found.reasons == {"not JSON": 2, "chosen is blank": 1, "rejected is missing": 1}
    assert found.num_read == 6
    assert found.fields_beside == {"id": 1}


def test_two_shapes_in_one_file_are_an_error_unless_one_is_named():
    with pytest.raises(ValueError, match=r"f:2: a row of shape kwise among rows of shape pairs: split the file"):
        convert(numbered(PAIR, KWISE), "rankings", source="f")
    found = convert(numbered(PAIR, KWISE), "rankings", source="f", shape="pairs")
    assert (len(found.kept), found.reasons) == (1, {"chosen is missing": 1})


def test_a_row_that_lacks_its_prompt_is_no_row_of_another_shape():
    found = convert(numbered(PAIR, {"chosen": "x", "rejected": "y"}), "rankings", source="f")
    assert found.reasons == {"prompt is missing": 1}


def test_fields_may_have_other_names():
    row = {"question": "q", "good": "x", "bad": "y", "chosen": "what we do not mean"}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    [(_, found)] = convert(numbered(row), "rankings", source="f", names=names).kept
    assert isinstance(found, GivenRanking)
    assert [one.text for one in found.completions] == ["x", "y"]
    assert found.prompt.beside == {}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("demonstrations", PAIR, r"f:1: .*rows of shape pairs are rankings: --as rankings"),
        ("rankings", {"prompt": "q", "completion": "c"}, r"are demonstrations: --as demonstrations"),
        ("text", {"messages": []}, r"rows of shape messages are demonstrations"),
        ("rankings", {"x": 1}, r"the fields are x, and rankings need .*--field prompt=THEIRS says which field"),
        ("demonstrations", {"prompt": "q", "completion": "c", "label": False}, r"these are unpaired preferences"),
    ],
)
def test_data_of_another_kind_are_refused_with_what_would_help(kind, fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        convert(numbered(fields), kind, source="f")


def test_a_source_of_which_nothing_can_be_used_is_an_error_with_the_counts():
    with pytest.raises(ValueError, match=r"f:1: none of 2 rows can be used, 1 not JSON, 1 chosen is blank"):
        convert(numbered("not JSON", PAIR | {"chosen": " "}), "rankings", source="f")
    with pytest.raises(ValueError, match=r"f: none of 0 rows can be used: it is empty"):
        convert([], "rankings", source="f")
    with pytest.raises(ValueError, match=r"shape 'duos' of rankings is unknown; there are judgements, kwise"):
        convert(numbered(PAIR), "rankings", source="f", shape="duos")
