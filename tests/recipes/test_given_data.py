"""A user's file becomes rows that stages read: every row counted, prompts held out whole, nothing learned and held."""

import gzip
import json
from pathlib import Path

import pytest

from instructloop import files
from instructloop.console import Quiet
from instructloop.recipes import given_data
from instructloop.recipes.given_rows import group_keys
from instructloop.runs import Run
from instructloop.stages.prompts_file import read_prompts
from instructloop.workspace import Workspace


def write(path: Path, rows: list[dict], *raw: bytes) -> str:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + b"".join(raw))
    return str(path)


def bring(folder: Path, kind: str, sources: dict[str, str], console: Quiet | None = None, **options) -> Run:
    space = Workspace.open(folder) if (folder / "loop.yaml").exists() else Workspace.create(folder, "quick")
    settings = {"kind": kind, "name": "mine", "shape": None, "fields": {}, "prompt": None, "num_zeros": 3, "seed": 1}
    fraction = None if "valid" in sources else 0.25
    config = given_data.Config.model_validate({**settings, "valid_fraction": fraction, **options})
    return given_data.run(
        config,
        workspace=space,
        name="import-mine",
        round=1,
        parents={},
        console=console or Quiet(),
        inputs={},
        sources=sources,  # pyright: ignore[reportArgumentType]
    )


def pairs(number: int, **fields) -> list[dict]:
    return [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}", **fields} for i in range(number)]


def rows(run: Run, kind: str) -> list[dict]:
    return files.read_jsonl(run.file(f"{kind}.jsonl"))


def test_a_share_of_the_prompts_is_held_out_each_whole(tmp_path: Path):
    both = [*pairs(20), *({**row, "chosen": "better"} for row in pairs(20))]  # two rankings a prompt
    run = bring(tmp_path / "loop", "rankings", {"train": write(tmp_path / "a.jsonl", both)})
    found = rows(run, "rankings")
    held = {row["prompt"] for row in found if row["split"] == "valid"}
    learned = {row["prompt"] for row in found if row["split"] == "train"}
    assert (len(held), len(learned), held & learned) == (5, 15, set())  # a quarter of 20
    assert (run.summary["train"], run.summary["valid"]) == (30, 10)


def test_what_is_held_out_depends_on_the_seed_and_not_on_the_order(tmp_path: Path):
    def held(folder: str, data: list[dict], seed: int) -> set[str]:
        run = bring(tmp_path / folder, "rankings", {"train": write(tmp_path / "a.jsonl", data)}, seed=seed)
        return {row["prompt"] for row in rows(run, "rankings") if row["split"] == "valid"}

    assert held("a", pairs(20), 1) == held("b", pairs(20)[::-1], 1) != held("c", pairs(20), 2)


def test_rows_are_dropped_for_a_reason_and_counted(tmp_path: Path):
    bad = [
        {"prompt": "q", "completion": " "},
        {"prompt": "q"},
        {"prompt": "q", "completion": "x" * 10_000_000},
        {"prompt": "q", "completion": 3},
    ]
    good = [{"prompt": f"p{i}", "completion": " yes \n"} for i in range(4)]
    source = write(tmp_path / "a.jsonl", [*good, *bad, good[0]], b'{"prompt": "\xff", "completion": "x"}\n', b"{\n")
    console = Quiet()
    run = bring(tmp_path / "loop", "demonstrations", {"train": source}, console)
    expected = {
        "completion is blank": 1,
        "completion is missing": 1,
        "completion is longer than 1,000,000 characters": 1,
        "completion is no list of messages": 1,
        "repeated": 1,
        "not UTF-8": 1,
        "not JSON": 1,
    }
    facts = run.summary["files"]["train"]
    assert facts == {"shape": "prompt_completion", "read": 11, "kept": 4, "dropped": expected}
    assert {row["row"] for row in rows(run, "dropped")} == {5, 6, 7, 8, 9, 10, 11}
    assert {row["completion"] for row in rows(run, "demonstrations")} == {"yes"}
    assert console.messages[0].startswith("import-mine: 11 rows of shape prompt_completion read from a.jsonl, 4 kept")


def test_two_shapes_in_one_file_are_refused_before_anything_is_written(tmp_path: Path):
    source = write(tmp_path / "a.jsonl", [*pairs(2), {"prompt": "q", "ranked": ["a", "b"]}])
    with pytest.raises(ValueError, match=r"a.jsonl:3: a row of shape ranked among rows of shape pairs"):
        bring(tmp_path / "loop", "rankings", {"train": source})
    assert Run.all(tmp_path / "loop/runs") == []


def test_another_file_is_held_out_but_what_is_learned_from(tmp_path: Path):
    sources = {
        "train": write(tmp_path / "a.jsonl", pairs(4)),
        "valid": write(tmp_path / "b.jsonl", [{**pairs(1)[0], "chosen": "other"}, *pairs(6)[4:]]),
    }
    run = bring(tmp_path / "loop", "rankings", sources)
    assert sorted(row["prompt"] for row in rows(run, "rankings") if row["split"] == "valid") == ["p4", "p5"]
    assert run.summary["files"]["valid"]["dropped"] == {"held out, but learned from too": 1}
    with pytest.raises(ValueError, match="every row of the file that is held out"):
        bring(tmp_path / "other", "rankings", {"train": sources["train"], "valid": sources["train"]})


def test_of_a_question_put_to_all_rows_those_are_held_out_that_share_no_completion(tmp_path: Path):
    data = [{**row, "prompt": "which is funnier?"} for row in pairs(40)]
    chained = [{**data[i], "rejected": f"good {i + 1}"} for i in (0, 1)]  # rows 0, 1 and 2 tell of each other
    run = bring(tmp_path / "loop", "rankings", {"train": write(tmp_path / "a.jsonl", [*data, *chained])})
    found = rows(run, "rankings")
    assert len({row["prompt_id"] for row in found}) == 1

    def texts(split: str) -> set[str]:
        return {one["text"] for row in found if row["split"] == split for one in row["completions"]}

    assert not texts("train") & texts("valid")
    assert sum(row["split"] == "valid" for row in found) >= 9  # a quarter of 38 groups, 9.5
    # Of another file's rows only those with a completion that is learned from are dropped.
    sources = {"train": write(tmp_path / "b.jsonl", data[:38]), "valid": write(tmp_path / "c.jsonl", data[36:])}
    again = bring(tmp_path / "other", "rankings", sources)
    assert again.summary["files"]["valid"]["dropped"] == {"held out, but learned from too": 2}
    assert again.summary["valid"] == 2


def test_groups_are_what_the_definition_says():
    """Two rows share a key where a path of shared completions leads from one to the other, by hand."""
    rows = [("q", ("a", "b")), ("q", ("c",)), ("r", ("a",)), *(("frame", (f"x{i}", f"y{i}")) for i in range(40))]
    rows += [("frame", ("y3", "x7")), ("frame", ("x3", "x3b")), ("q", ())]
    keys = group_keys(rows)
    assert keys[0] == keys[1] == keys[-1] != keys[2]  # one prompt, whatever its completions
    frame = keys[3:-1]
    assert len(set(frame)) == 39  # of 40, rows 3 and 7 are one
    assert frame[3] == frame[7] == frame[40] == frame[41]
    assert len({*frame, keys[0], keys[2]}) == 41


def test_blank_prompts_get_the_one_that_was_given(tmp_path: Path):
    source = write(tmp_path / "a.jsonl", pairs(40, prompt=""))
    with pytest.raises(ValueError, match="40 prompt is blank: --prompt TEXT gives such rows one"):
        bring(tmp_path / "loop", "rankings", {"train": source})
    run = bring(tmp_path / "loop", "rankings", {"train": source}, prompt="more pleasant?")
    assert {row["prompt"] for row in rows(run, "rankings")} == {"more pleasant?"}


def test_the_best_completions_of_some_training_prompts_stand_in_for_demonstrations(tmp_path: Path):
    run = bring(tmp_path / "loop", "rankings", {"train": write(tmp_path / "a.jsonl", pairs(8))})
    best = rows(run, "demonstrations")
    held = {row["prompt"] for row in rows(run, "rankings") if row["split"] == "valid"}
    assert len(best) == 3
    assert all(row["completion"] == f"good {row['prompt'][1:]}" and row["split"] == "train" for row in best)
    assert not held & {row["prompt"] for row in best}


def test_the_best_completion_is_that_of_the_first_tier_whatever_its_place(tmp_path: Path):
    ranked = [
        {"prompt": f"p{i}", "completions": [{"rank": 2, "completion": "a"}, {"rank": 1, "completion": "z"}]}
        for i in range(4)
    ]
    run = bring(tmp_path / "loop", "rankings", {"train": write(tmp_path / "a.jsonl", ranked)})
    assert {row["completion"] for row in rows(run, "demonstrations")} == {"z"}


def test_prompts_are_taken_from_files_of_labels_too(tmp_path: Path):
    talk = "\n\nHuman: q{}\n\nAssistant: {}"
    data = [{"chosen": talk.format(i % 8, "yes"), "rejected": talk.format(i % 8, "no")} for i in range(9)]
    path = tmp_path / "hh.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in data).encode()))
    run = bring(tmp_path / "loop", "prompts", {"train": str(path)})
    found = read_prompts(run)
    assert sorted(prompt.text for prompt in found) == [f"q{i}" for i in range(8)]
    assert {prompt.split for prompt in found} == {"train", "valid"}
    assert run.summary["files"]["train"]["dropped"] == {"repeated": 1}


def test_one_prompt_cannot_be_learned_from_and_held_out(tmp_path: Path):
    with pytest.raises(
        ValueError, match="all rows tell of each other, so none can be held out: bring more prompts, or --eval FILE"
    ):
        bring(tmp_path / "loop", "rankings", {"train": write(tmp_path / "a.jsonl", pairs(1))})
