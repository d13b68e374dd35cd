"""Data from outside: every shape becomes prompts, demonstrations and rankings, and a bad row is named."""

import gzip
import json
from pathlib import Path

import pytest

from instructloop.recipes import outside


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_demonstrations_keep_their_text(tmp_path: Path):
    [one] = outside.demonstrations(
        write(tmp_path / "d.jsonl", {"prompt": "spell teh", "completion": " the "}), origin="import:d"
    )
    assert (one.prompt.text, one.text, one.prompt.source) == ("spell teh", "the", "import:d")


def test_ranked_texts_are_best_first_and_equal_votes_are_ties(tmp_path: Path):
    path = write(
        tmp_path / "r.jsonl",
        {"prompt": [{"role": "prompter", "text": "why?"}], "ranked": ["a", "b", "c"]},
        {"prompt": "how?", "ranked": ["a", "b", "c"], "votes": [3, 1, 3]},
    )
    first, second = outside.rankings(path, origin="import:r")
    assert first.prompt.text == "why?"
    assert first.tiers == [[0], [1], [2]]
    assert second.tiers == [[0, 2], [1]]


def test_completions_with_equal_ranks_are_ties(tmp_path: Path):
    row = {
        "context": "q",
        "completions": [{"rank": 2, "completion": "x"}, {"rank": 1, "completion": "y"}, {"rank": 2, "completion": "z"}],
    }
    [one] = outside.rankings(write(tmp_path / "k.jsonl", row), origin="import:k")
    assert (one.completions, one.tiers) == (["x", "y", "z"], [[1], [0, 2]])


def test_chosen_beats_rejected_and_one_turn_transcripts_become_plain_prompts(tmp_path: Path):
    row = {"prompt": "\n\nHuman: hello there\n\nAssistant:", "chosen": "hi", "rejected": "no"}
    [one] = outside.rankings(write(tmp_path / "h.jsonl", row), origin="import:h")
    assert (one.prompt.text, one.completions, one.tiers) == ("hello there", ["hi", "no"], [[0], [1]])


def test_an_implicit_prompt_is_split_off_at_the_last_turn(tmp_path: Path):
    shared = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    row = {"chosen": f"{shared} good", "rejected": f"{shared} bad"}
    [one] = outside.rankings(write(tmp_path / "h.jsonl", row), origin="import:h")
    assert one.completions == ["good", "bad"]
    assert one.prompt.text == shared.strip()


def test_a_prompt_has_the_id_that_stage_1_gives_it(tmp_path: Path):
    [one] = outside.demonstrations(
        write(tmp_path / "d.jsonl", {"prompt": "a \r\nb", "completion": "c"}), origin="import:d"
    )
    assert one.prompt.text == "a\nb"


def test_turns_become_a_transcript(tmp_path: Path):
    turns = [{"role": "prompter", "text": "a"}, {"role": "assistant", "text": "b"}, {"role": "prompter", "text": "c"}]
    assert outside.text_of(turns, "f:1") == "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"


def test_gzip_is_read(tmp_path: Path):
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write('{"prompt": "p", "completion": "c"}\n')
    assert outside.find_file(tmp_path, "d.jsonl") == tmp_path / "d.jsonl.gz"
    assert len(list(outside.demonstrations(tmp_path / "d.jsonl.gz", origin="import:d"))) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "p"}\n', r"d.jsonl:1: missing completion; the fields are prompt"),
        ('{"prompt": "p", "completion": "c"}\n{oops\n', r"d.jsonl:2: not a readable row"),
        ("[1]\n", r"d.jsonl:1: not a readable row \(a row must be a JSON object, found list\)"),
        ('{"prompt": 3, "completion": "c"}\n', r"d.jsonl:1: prompt must be a text or a list of turns, found int"),
        ('{"prompt": [{"role": "robot"}], "completion": "c"}\n', r"d.jsonl:1: role 'robot' of a turn must be one of"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, content: str, message: str):
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        list(outside.demonstrations(tmp_path / "d.jsonl", origin="import:d"))


def test_text_that_is_not_utf8_is_refused_by_file(tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    with pytest.raises(ValueError, match=r"d.jsonl:1: not a readable row"):
        list(outside.rows(tmp_path / "d.jsonl"))


def test_a_missing_file_says_what_is_there(tmp_path: Path):
    (tmp_path / "other.jsonl").touch()
    with pytest.raises(ValueError, match=r"d.jsonl is missing \(also as .gz\); .* holds other.jsonl"):
        outside.find_file(tmp_path, "d.jsonl")
