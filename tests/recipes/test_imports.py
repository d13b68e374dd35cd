"""What comes from outside becomes a run: models, text and labels, with the hash of what they came from."""

import json
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.core.records import Prompt
from instructloop.recipes import imports
from instructloop.runs import Run
from instructloop.stages import s1_prompts
from instructloop.store.rows import ImportedDemonstration, ImportedRanking
from instructloop.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "loop", "toy")


def prompt(text: str) -> Prompt:
    return Prompt.make(text, source="import:x", user=text)


def prompts_run(workspace: Workspace, prompts: list[Prompt]) -> Run:
    config = s1_prompts.Config(prefix_characters=50, max_per_user=200, valid_fraction=0, test_fraction=0, seed=0)
    return s1_prompts.run(
        config, workspace=workspace, name="prompts", round=1, parents={}, console=Quiet(), raw=lambda: prompts
    )


def bring(workspace: Workspace, kind: str, rows: list, prompts: list[Prompt], console: Quiet) -> Run:
    return imports.labels(
        imports.LabelsConfig(kind=kind),
        workspace=workspace,
        name=kind,
        round=1,
        parents={"prompts": prompts_run(workspace, prompts)},
        console=console,
        people={"import:x": lambda: rows},
    )


def test_demonstrations_from_outside_are_stored_frozen_and_counted(workspace: Workspace):
    kept, dropped = prompt("what is rain ?"), prompt("never cleaned")
    rows = [ImportedDemonstration(kept, "water"), ImportedDemonstration(dropped, "?")]
    console = Quiet()
    run = bring(workspace, "demonstrations", rows, [kept], console)
    [row] = map(json.loads, run.file("demonstrations.jsonl").read_text().splitlines())
    assert (row["prompt"], row["completion"], row["origin"]) == ("what is rain ?", "water", "import:x")
    assert "demonstrations: import:x: kept 1 of 2, 1 of prompts that cleaning dropped" in console.messages


def test_rankings_from_outside_keep_their_ties(workspace: Workspace):
    asked = prompt("name a bird")
    run = bring(
        workspace, "rankings", [ImportedRanking(asked, ["crow", "hen", "cup"], [[0, 1], [2]])], [asked], Quiet()
    )
    [row] = map(json.loads, run.file("rankings.jsonl").read_text().splitlines())
    text = {completion["id"]: completion["text"] for completion in row["completions"]}
    assert [sorted(text[one] for one in tier) for tier in row["tiers"]] == [["crow", "hen"], ["cup"]]


def test_other_labels_are_another_run(workspace: Workspace):
    asked = prompt("what is rain ?")
    one = bring(workspace, "demonstrations", [ImportedDemonstration(asked, "water")], [asked], Quiet())
    other_workspace = Workspace.create(workspace.root.parent / "other", "toy")
    other = bring(other_workspace, "demonstrations", [ImportedDemonstration(asked, "wet")], [asked], Quiet())
    assert one.id != other.id


def test_text_from_outside_is_split_into_read_and_unread(workspace: Workspace):
    run = imports.text(
        imports.TextConfig(source="a shelf", num_heldout=1),
        workspace=workspace,
        name="pretraining",
        round=1,
        parents={},
        console=Quiet(),
        documents=lambda: ["one", "two"],
        heldout=lambda: ["three", "four"],
        inputs={"shelf.txt": "0" * 64},
    )
    texts = [json.loads(line)["text"] for line in run.file("text.jsonl").read_text().splitlines()]
    unread = [json.loads(line)["text"] for line in run.file("heldout.jsonl").read_text().splitlines()]
    assert (texts, unread) == (["one", "two"], ["three"])
    assert run.inputs == {"shelf.txt": "0" * 64}


def test_a_file_is_known_by_its_sha256(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert imports.file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
