"""People's data for a recipe: cleaned as stage 1 cleans, each file whole; the shapes are tests/formats' part."""

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


def test_blanks_around_turns_and_completions_go(tmp_path: Path):
    turns = [
        {"role": "prompter", "text": "a "},
        {"role": "assistant", "text": "b\n"},
        {"role": "prompter", "text": " c"},
    ]
    path = write(tmp_path / "r.jsonl", {"prompt": turns, "ranked": [" x", "y ", "z"], "votes": [1, 3, 3]})
    [one] = outside.rankings(path, origin="import:r")
    assert one.prompt.text == "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert [[one.completions[place] for place in tier] for tier in one.tiers] == [["y", "z"], ["x"]]


def test_gzip_is_read(tmp_path: Path):
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write('{"prompt": "p", "completion": "c"}\n')
    assert outside.find_file(tmp_path, "d.jsonl") == tmp_path / "d.jsonl.gz"
    assert len(list(outside.demonstrations(tmp_path / "d.jsonl.gz", origin="import:d"))) == 1


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"prompt": "p"}', r"d.jsonl:2: completion is missing \(in 1 rows\); `instructloop import` counts such"),
        ("{oops", r"d.jsonl:2: not JSON"),
        ('{"prompt": "p", "completion": " "}', r"d.jsonl:2: completion is blank"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r"}', r"d.jsonl:2: completion is missing"),
    ],
)
def test_a_recipe_takes_a_file_whole_or_names_the_row_that_is_unfit(tmp_path: Path, second: str, message: str):
    (tmp_path / "d.jsonl").write_text('{"prompt": "p", "completion": "c"}\n' + second + "\n")
    with pytest.raises(ValueError, match=message):
        list(outside.demonstrations(tmp_path / "d.jsonl", origin="import:d"))


def test_text_that_is_not_utf8_is_refused_by_file_and_row(tmp_path: Path):
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"d.jsonl:2: not UTF-8"):
        list(outside.rows(tmp_path / "d.jsonl"))
    with pytest.raises(ValueError, match=r"d.jsonl: not readable text"):
        list(outside.lines(tmp_path / "d.jsonl"))


def test_a_missing_file_says_what_is_there(tmp_path: Path):
    (tmp_path / "other.jsonl").touch()
    with pytest.raises(ValueError, match=r"d.jsonl is missing \(also as .gz\); .* holds other.jsonl"):
        outside.find_file(tmp_path, "d.jsonl")
