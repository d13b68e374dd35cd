"""Scores: one row out for each row in, in order; what was cut or refused is said by row and counted."""

import json
from pathlib import Path

import pytest

from instructloop.models.scalar import Scorer
from instructloop.runs import Run
from instructloop.talk import scores


@pytest.fixture
def scorer(loop: Path) -> Scorer:
    return Scorer.load(Run.find(loop / "runs", "reward").file("model"))


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROWS = [
    {"prompt": "The dog", "completion": "woof", "id": 7},
    {"prompt": [{"role": "user", "content": "The dog"}], "completion": [{"role": "assistant", "content": "woof"}]},
    {"prompt": "word " * 100, "completion": "woof"},
    {"prompt": "The dog", "completion": ""},
    {"prompt": "The dog", "completion": "woof", "finished": False},
    {"prompt": "The dog", "completion": "woof", "score": 3, "row": "a"},
]
BAD = [
    ({"completion": "woof"}, "prompt is missing"),
    ({"prompt": "The dog", "chosen": "a", "rejected": "b"}, "completion is missing"),
    ({"prompt": "The dog", "completion": "word " * 200}, "does not fit a context of 128"),
    ({"prompt": "The dog", "completion": 3}, "completion is no text"),
    ({"prompt": "The dog", "completion": "woof", "finished": "yes"}, "finished is neither true nor false"),
    ([1], "not a JSON object but a list"),
]


def test_rows_are_scored_as_the_reward_model_scores_them(loop: Path, call, scorer: Scorer):
    said = call("score", "reward", "-", "--dir", loop, given=lines(*ROWS))
    assert (said.code, said.err) == (0, "6 rows: 6 scored, 1 of them with a truncated prompt\n")
    rows = [json.loads(line) for line in said.out.splitlines()]
    pair = ("The dog", "woof")
    expected = [scorer.scores([one])[0] for one in (pair, pair, ("word " * 100, "woof"), ("The dog", ""))]
    expected += [*scorer.scores([pair], finished=[False]), *scorer.scores([pair])]
    assert [row["score"] for row in rows] == pytest.approx(expected, abs=1e-5)
    assert expected[4] != pytest.approx(expected[0], abs=1e-3)
    assert [row["truncated"] for row in rows] == [False, False, True, False, False, False]
    assert rows[0] == {**ROWS[0], "row": 1, "score": rows[0]["score"], "truncated": False}
    assert (rows[5]["given_score"], rows[5]["given_row"], rows[5]["row"]) == (3, "a", 6)


def test_rows_that_cannot_be_scored_stay_in_their_place_with_the_reason(loop: Path, call):
    given = lines(ROWS[0], *(row for row, _ in BAD)) + b"{oops\n\xff\xfe\n\n" + lines(ROWS[0])
    said = call("score", "reward", "--dir", loop, given=given)
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["row"] for row in rows] == [*range(1, 10), 11]  # line 10 is blank
    for row, (_, reason) in zip(rows[1:], BAD, strict=False):
        assert row["score"] is None
        assert reason in row["error"]
    assert [row["error"] for row in rows[7:9]] == ["not JSON", "not UTF-8"]
    assert rows[0]["score"] == pytest.approx(rows[-1]["score"], abs=1e-5)
    assert said.err.startswith("10 rows: 2 scored, 1 refused (")
    assert "1 refused (not UTF-8)" in said.err


def test_chunks_change_no_score(loop: Path, call, monkeypatch: pytest.MonkeyPatch):
    whole = call("score", "reward", "--dir", loop, given=lines(*ROWS)).out.splitlines()
    monkeypatch.setattr(scores, "CHUNK_ROWS", 1)
    single = call("score", "reward", "--dir", loop, given=lines(*ROWS)).out.splitlines()
    assert [json.loads(row)["score"] for row in single] == pytest.approx(
        [json.loads(row)["score"] for row in whole], abs=1e-5
    )


def test_a_file_and_a_single_pair_are_scored_likewise(loop: Path, call, scorer: Scorer):
    Path("rows.csv").write_text("prompt,completion\nThe dog,woof\n")
    [expected] = scorer.scores([("The dog", "woof")])
    of_file = call("score", "reward", "rows.csv", "--dir", loop)
    of_pair = call("score", "reward", "--prompt", "The dog", "--completion", "woof", "--dir", loop)
    for said in (of_file, of_pair):
        assert json.loads(said.out)["score"] == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_meant_is_one_line(loop: Path, call):
    wrong = call("score", "sft", "rows.jsonl", "--dir", loop)
    assert wrong.code == 1
    assert "is a policy, not a reward model: try `instructloop chat sft`" in wrong.err
    assert call("score", "reward", "--prompt", "x", "--dir", loop).code == 2
    assert call("score", "reward", "a.jsonl", "--prompt", "x", "--completion", "y", "--dir", loop).code == 2
    assert "no.jsonl does not exist" in call("score", "reward", "no.jsonl", "--dir", loop).err
    blank = call("score", "reward", "--prompt", " ", "--completion", "y", "--dir", loop)
    assert blank.code == 1
    assert "error: prompt is" in blank.err
