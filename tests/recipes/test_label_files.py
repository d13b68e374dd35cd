"""A file becomes a run and rows of the store: everything counted, nothing twice, and out again as it came."""

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from instructloop import files
from instructloop.console import Quiet
from instructloop.formats.converting import convert
from instructloop.formats.rows import read_rows
from instructloop.recipes import label_files
from instructloop.recipes.label_exports import export, label_of
from instructloop.runs import Run
from instructloop.store import TaskItem
from instructloop.workspace import Workspace

SHARED = Path(os.environ.get("INSTRUCTLOOP_DATA", Path(__file__).parents[3] / "shared" / "data"))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAIRS = [
    {"prompt": "q", "chosen": "x", "rejected": "y", "id": "one", "margin": 0.5},
    {"prompt": "q", "chosen": "x", "rejected": "y", "id": "two", "labeler": "ann", "category": "chat"},
    {"prompt": "q", "chosen": "x", "rejected": "x"},
    {"prompt": "q", "chosen": "", "rejected": "y"},
    {"prompt": "r", "chosen": "x", "rejected": "y", "labeler": "ann", "user": "u"},
    {"prompt": "r", "chosen": "x", "rejected": "y", "labeler": "ann", "user": "u", "margin": 2},
    {"prompt": "r", "chosen": "y", "rejected": "x", "labeler": "ann", "user": "u"},
    {"prompt": "s", "chosen": "x", "rejected": "y"},
    {"prompt": "s", "chosen": "y", "rejected": "x"},
]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "loop", "toy")


def write(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def bring(workspace: Workspace, source: str, kind: str = "rankings", **options) -> Run:
    config = label_files.Config.model_validate({"kind": kind, "name": label_files.name_of(source), **options})
    return label_files.bring(config, source, workspace=workspace, console=Quiet())


def lines(path: Path) -> list[str]:
    return sorted(json.dumps(json.loads(line), sort_keys=True) for line in path.read_text().splitlines())


def test_every_row_is_in_the_run_or_in_its_list_of_dropped_rows(workspace: Workspace, tmp_path: Path):
    run = bring(workspace, write(tmp_path / "mine.jsonl", *PAIRS))
    assert (run.name, run.stage, run.is_done) == ("import-mine", "import", True)
    assert run.summary["read"] == 9
    assert run.summary["kept"] == run.summary["rows"] == 5
    reasons = {"two equal completions": 1, "chosen is blank": 1, "repeated": 1, "another answer of the same labeler": 1}
    assert run.summary["dropped"] == reasons
    assert files.read_jsonl(run.file("dropped.jsonl")) == [
        {"row": 3, "reason": "two equal completions"},
        {"row": 4, "reason": "chosen is blank"},
        {"row": 6, "reason": "repeated"},
        {"row": 7, "reason": "another answer of the same labeler"},
    ]
    assert run.inputs["file"] == files.hash_path(tmp_path / "mine.jsonl")
    assert sorted(row["row"] for row in files.read_jsonl(run.file("beside.jsonl"))) == [1, 2, 5, 8, 9]


def test_kept_rows_are_rows_of_the_store_with_their_origin(workspace: Workspace, tmp_path: Path):
    run = bring(workspace, write(tmp_path / "mine.jsonl", *PAIRS))
    [tasks] = [progress.task_set for progress in workspace.store.task_sets()]
    stored = [*workspace.store.rankings([tasks], ["train"])]
    assert {row.origin for row in stored} == {"import:mine"}
    # Nobody is named in the rows of "s", which disagree: the second is somebody else's.
    assert Counter(row.labeler for row in stored) == {"ann": 2, "import:mine": 2, "import:mine#2": 1}
    assert {row.id for row in stored} == {row["id"] for row in files.read_jsonl(run.file("rankings.jsonl"))}


def test_the_same_file_again_is_the_same_run_and_adds_nothing(workspace: Workspace, tmp_path: Path):
    source = write(tmp_path / "mine.jsonl", *PAIRS)
    first = bring(workspace, source)
    before = (first.manifest, workspace.store.task_sets())
    again = bring(workspace, source)
    assert (again.manifest, workspace.store.task_sets()) == before
    assert [*workspace.cache.iterdir()] == []


def test_an_import_stopped_after_the_store_counts_as_if_it_had_not_been(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = write(tmp_path / "mine.jsonl", *PAIRS)
    with monkeypatch.context() as patch:
        patch.setattr(label_files, "_start", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            bring(workspace, source)
    assert len(workspace.store.task_sets()) == 1
    elsewhere = Workspace.create(tmp_path / "other", "toy")
    after, untouched = bring(workspace, source), bring(elsewhere, source)
    assert after.id == untouched.id
    assert after.summary == untouched.summary


def test_a_file_that_is_refused_leaves_nothing(workspace: Workspace, tmp_path: Path):
    mixed = write(tmp_path / "mixed.jsonl", PAIRS[0], {"prompt": "q", "ranked": ["a", "b"]})
    with pytest.raises(ValueError, match=r"mixed.jsonl:2: a row of shape ranked among rows of shape pairs"):
        bring(workspace, mixed)
    assert workspace.store.task_sets() == []
    assert Run.all(workspace.runs) == []


def test_a_labeler_known_from_elsewhere_is_not_taken_for_the_same(workspace: Workspace, tmp_path: Path):
    bring(workspace, write(tmp_path / "mine.jsonl", *PAIRS))
    second = write(tmp_path / "second.jsonl", PAIRS[1])
    with pytest.raises(ValueError, match=r"labeler 'ann' is known here already .* --name mine and --cohort train"):
        bring(workspace, second)
    assert bring(workspace, second, name="mine").summary["kept"] == 1


def test_held_out_labels_are_frozen_but_never_exported_to_trainers(workspace: Workspace, tmp_path: Path):
    run = bring(workspace, write(tmp_path / "held.jsonl", PAIRS[0]), cohort="heldout")
    assert files.read_jsonl(run.file("rankings.jsonl"))[0]["cohort"] == "heldout"
    with pytest.raises(ValueError, match="no row can be written as pairs; left out: 1 by held-out labelers"):
        export(run, "pairs", tmp_path / "out.jsonl")
    assert export(run, "judgements", tmp_path / "raw.jsonl")["rows"] == 1


def test_pairs_go_out_as_they_came_in(workspace: Workspace, tmp_path: Path):
    run = bring(workspace, write(tmp_path / "mine.jsonl", *PAIRS))
    manifest = export(run, "pairs", tmp_path / "out.jsonl")
    write(tmp_path / "expected.jsonl", *(PAIRS[place] for place in (0, 1, 4, 7, 8)))
    assert lines(tmp_path / "out.jsonl") == lines(tmp_path / "expected.jsonl")
    assert manifest == json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert (manifest["rows"], manifest["labels"], manifest["run"]) == (5, 5, run.id)
    assert manifest["sha256"] == files.hash_path(tmp_path / "out.jsonl")
    assert manifest["labelers"] == {"ann": 2, "import:mine": 2, "import:mine#2": 1}


def test_rankings_with_ties_ratings_and_policies_survive_the_way_through_the_store(
    workspace: Workspace, tmp_path: Path
):
    ranked = [
        {"rank": 1, "completion": "b", "policy": "sft", "rating": 7},
        {"rank": 2, "completion": "a", "note": "long"},
        {"rank": 2, "completion": "c", "policy": "ppo", "rating": 2},
    ]
    row = {"prompt": "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "completions": ranked, "confidence": 0.9}
    run = bring(workspace, write(tmp_path / "mine.jsonl", row))
    export(run, "kwise", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == row
    manifest = export(run, "pairs", tmp_path / "pairs.jsonl")  # the tie yields none
    assert (manifest["rows"], manifest["labels"]) == (2, 1)


def test_labels_of_the_app_carry_their_flags_batch_and_order_shown():
    row = {
        "id": "s-1",
        "prompt_id": "p",
        "prompt": "q",
        "split": None,
        "category": "chat",
        "user": "u",
        "cohort": "train",
        "labeler": "ann",
        "origin": "person",
        "task_set": "r01",
        "shown": ["2", "1"],
        "tiers": [["1"], ["2"]],
        "completions": [{"id": "1", "text": "x", "policy": "sft"}, {"id": "2", "text": "y", "policy": "ppo"}],
        "ratings": {"1": 6, "2": None},
        "flags": {"1": {"hallucination": False, "sexual_content": None}, "2": {}},
    }
    label = label_of(row)
    assert label.prompt.beside == {"label_id": "s-1", "batch": "r01", "cohort": "train", "origin": "person"}
    assert (label.labeler, label.prompt.user, label.prompt.category) == ("ann", "u", "chat")
    assert [(one.text, one.rating, one.beside) for one in label.completions] == [  # pyright: ignore
        ("x", 6, {"flags": {"hallucination": False}, "shown": 1}),
        ("y", None, {"shown": 0}),
    ]


def test_prompts_and_text_become_runs_too(workspace: Workspace, tmp_path: Path):
    asked = write(tmp_path / "asked.jsonl", {"prompt": "q", "user": "u"}, {"prompt": "q", "user": "u"}, {"prompt": ""})
    run = bring(workspace, asked, "prompts")
    assert (run.summary["kept"], sum(run.summary["dropped"].values())) == (1, 2)
    [stored] = workspace.store.prompts(source="import:asked")
    assert (stored.text, stored.user, stored.id) == ("q", "u", files.read_jsonl(run.file("prompts.jsonl"))[0]["id"])
    told = bring(workspace, write(tmp_path / "told.jsonl", {"text": " t\n", "title": "T"}), "text")
    assert files.read_jsonl(told.file("text.jsonl")) == [{"text": " t\n"}]
    assert files.read_jsonl(told.file("beside.jsonl")) == [{"row": 1, "fields": {"title": "T"}}]


def test_a_name_is_made_of_the_file_s(tmp_path: Path):
    assert label_files.name_of("/a/b/My Labels.train.JSONL.gz") == "my-labels-train"
    assert label_files.name_of("org/Data_set") == "data_set"
    assert label_files.name_of("???.csv") == "file"


@pytest.mark.parametrize("name", ["oasst1-ranked.train", "stackexchange-ranked.dev", "hh-rlhf.dev"])
def test_real_labels_survive_the_way_through_the_store(workspace: Workspace, name: str):
    source = SHARED / "preferences" / f"{name}.jsonl.gz"
    if not source.is_file():
        pytest.skip(f"{source} is not here: people's data are no part of the project")
    given = convert(read_rows(str(source)), "rankings", source=name)
    run = bring(workspace, str(source))
    beside = {row["id"]: row for row in files.read_jsonl(run.file("beside.jsonl"))}
    came = dict(given.kept)
    back = {
        beside[row["id"]]["row"]: label_of(row, beside[row["id"]])
        for row in files.read_jsonl(run.file("rankings.jsonl"))
    }
    dropped = {row["row"] for row in files.read_jsonl(run.file("dropped.jsonl"))}
    assert back == {number: one for number, one in came.items() if number not in dropped}
    assert len(back) + len(dropped) == given.num_read


def test_the_language_that_a_row_names_is_kept_for_whoever_labels_its_prompt(workspace: Workspace, tmp_path: Path):
    rows = [
        {"prompt": "Bonjour ?", "lang": "fr"},
        {"prompt": "Wie geht es?", "language": "de"},
        {"prompt": "Hi?", "lang": "the Queen's"},
        {"prompt": "Hello?"},
    ]
    bring(workspace, write(tmp_path / "asked.jsonl", *rows), "prompts")
    prompts = workspace.store.prompts(source="import:asked")
    items = [TaskItem(prompt.id) for prompt in prompts]
    workspace.store.open_tasks("w", "demonstrate", items, overlap=1, cohort="train", now=NOON)
    workspace.store.add_labeler("ann", "train", now=NOON)
    found = dict[str, str | None]()
    while held := workspace.store.claim("w", "ann", NOON):
        item = workspace.store.desk.assignment(held.id, "ann")
        assert item is not None
        found[item.prompt.text] = item.language
        workspace.store.submit_demonstration(held.id, "Yes.", now=NOON, idempotency_key="1")
    assert found == {"Bonjour ?": "fr", "Wie geht es?": "de", "Hi?": None, "Hello?": None}
