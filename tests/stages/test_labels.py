"""Stages 1, 2 and 5: prompts are cleaned into a run; people's answers are waited for, then frozen into one."""

import json
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.core.records import Completion, Prompt
from instructloop.runs import Run
from instructloop.stages import s1_prompts, s2_demonstrations, s5_rankings
from instructloop.stages.labels import Waiting, task_set
from instructloop.stages.prompts_file import draw, read_prompts, write_rows
from instructloop.store.rows import ComparisonForm
from instructloop.workspace import Workspace

PROMPTS = s1_prompts.Config(prefix_characters=40, max_per_user=200, valid_fraction=0.3, test_fraction=0.3, seed=0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "loop", "toy")


def raw(number: int = 60) -> list[Prompt]:
    return [Prompt.make(f"question {i:03d} ?", source="customer", user=f"user-{i % 20}") for i in range(number)]


def prompts_run(workspace: Workspace) -> Run:
    return s1_prompts.run(
        PROMPTS, workspace=workspace, name="prompts", round=1, parents={}, console=Quiet(), raw=lambda: raw()
    )


def demonstrations(num_train: int = 4, **changes) -> s2_demonstrations.Config:
    values = {
        "num_train": num_train,
        "num_valid": 1,
        "sources": ("customer",),
        "cohort": "train",
        "overlap": 1,
        "seed": 0,
    }
    return s2_demonstrations.Config(**values | changes)


def write_demonstrations(workspace: Workspace, tasks: str, suffix: str = "") -> None:
    workspace.store.add_labeler("ann", "train", now=workspace.now())
    while assignment := workspace.store.claim(tasks, "ann", workspace.now()):
        text = f"answer to {assignment.prompt.text}{suffix}"
        workspace.store.submit_demonstration(assignment.id, text, now=workspace.now(), idempotency_key="1")


def test_prompts_are_cleaned_split_and_stored(workspace: Workspace):
    run = prompts_run(workspace)
    kept = read_prompts(run)
    assert len(kept) == 60
    assert {p.split for p in kept} == {"train", "valid", "test"}
    users = {split: {p.user for p in kept if p.split == split} for split in ("train", "valid", "test")}
    assert not users["train"] & users["test"]
    assert {p.id for p in workspace.store.prompts()} == {p.id for p in kept}


def test_dropped_prompts_are_counted_with_their_reason(workspace: Workspace):
    extra = [*raw(), Prompt.make("question 001 ?", source="customer", user="other")]
    run = s1_prompts.run(
        PROMPTS, workspace=workspace, name="prompts", round=1, parents={}, console=Quiet(), raw=lambda: extra
    )
    assert run.summary["read"] == 61
    assert run.summary["dropped"] == {"duplicate": 1}


def test_a_draw_moves_by_one_when_a_prompt_is_added():
    prompts = [Prompt.make(f"{i}", source="customer", user="u", split="train") for i in range(50)]
    first = draw(prompts, 10, split="train", sources=["customer"], seed=1, what="x")
    more = [*prompts, Prompt.make("new", source="customer", user="u", split="train")]
    second = draw(more, 10, split="train", sources=["customer"], seed=1, what="x")
    assert len({p.id for p in first} & {p.id for p in second}) >= 9


def test_a_draw_without_a_number_takes_all_in_the_order_of_the_draw():
    prompts = [Prompt.make(f"{i}", source="customer", user="u", split=("train", "test")[i % 2]) for i in range(20)]
    every = draw(prompts, None, split="test", sources=["customer"], seed=1, what="x")
    assert {p.text for p in every} == {str(i) for i in range(1, 20, 2)}
    assert every[:4] == draw(prompts, 4, split="test", sources=["customer"], seed=1, what="x")
    with pytest.raises(ValueError, match="wants some valid prompts of customer; there are 0"):
        draw(prompts, None, split="valid", sources=["customer"], seed=1, what="x")


def test_too_few_prompts_are_an_error_with_the_numbers(workspace: Workspace):
    with pytest.raises(ValueError, match=r"demonstrations wants 400 train prompts of customer; there are \d+"):
        s2_demonstrations.run(
            demonstrations(400),
            workspace=workspace,
            name="demonstrations",
            round=1,
            parents={"prompts": prompts_run(workspace)},
            console=Quiet(),
        )


def test_demonstrations_wait_for_people_and_are_frozen_when_all_are_in(workspace: Workspace):
    parents = {"prompts": prompts_run(workspace)}
    arguments = {"workspace": workspace, "name": "demonstrations", "round": 1, "parents": parents, "console": Quiet()}
    with pytest.raises(Waiting, match="demonstrations waits for people: 0 of 5"):
        s2_demonstrations.run(demonstrations(), **arguments)
    write_demonstrations(workspace, task_set(1, "demonstrations", demonstrations(), parents))
    run = s2_demonstrations.run(demonstrations(), **arguments)
    rows = [json.loads(line) for line in run.file("demonstrations.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    assert all(row["completion"] == f"answer to {row['prompt']}" for row in rows)
    assert sorted(row["split"] for row in rows) == ["train"] * 4 + ["valid"]


def test_one_other_label_is_another_run(tmp_path: Path):
    ids = []
    for suffix in ("", " .", ""):
        workspace = Workspace.create(tmp_path / f"loop{len(ids)}", "toy")
        parents = {"prompts": prompts_run(workspace)}
        run = s2_demonstrations.run(
            demonstrations(),
            workspace=workspace,
            name="demonstrations",
            round=1,
            parents=parents,
            console=Quiet(),
            people=lambda w, tasks, suffix=suffix: write_demonstrations(w, tasks, suffix),
        )
        ids.append(run.id)
    assert ids[0] != ids[1]
    assert ids[0] == ids[2]


def samples_run(workspace: Workspace, prompts: list[Prompt]) -> Run:
    run = Run.start(workspace.runs, "s4_samples", name="samples", round=1, config={}, parents={})
    made = [
        Completion.make(p.id, f"text {k}", policy="sft", policy_run="r", index=k, sampling={}, finished=True)
        for p in prompts
        for k in range(3)
    ]
    workspace.store.add_completions(made)
    write_rows(run.file("completions.jsonl"), ({"id": c.id, "prompt_id": c.prompt_id} for c in made))
    run.finish("completions.jsonl")
    return run


def rank(workspace: Workspace, tasks: str, labelers: list[str], cohort: str) -> None:
    for labeler in labelers:
        workspace.store.add_labeler(labeler, cohort, now=workspace.now())
        while assignment := workspace.store.claim(tasks, labeler, workspace.now()):
            ids = sorted(c.id for c in assignment.completions)
            form = ComparisonForm(dict.fromkeys(ids, 4), {}, ((ids[0],), tuple(ids[1:])))
            workspace.store.submit_comparison(assignment.id, form, now=workspace.now(), idempotency_key="1")


def rankings(**changes) -> s5_rankings.Config:
    values = {
        "cohort": "train",
        "purpose": "train",
        "overlap": 1,
        "shared_fraction": 0.5,
        "shared_overlap": 2,
        "seed": 0,
    }
    return s5_rankings.Config(**values | changes)


def test_rankings_keep_ties_and_a_share_of_tasks_is_seen_twice(workspace: Workspace):
    prompts = [p for p in read_prompts(prompts_run(workspace)) if p.split == "train"][:8]
    parents = {"samples": samples_run(workspace, prompts)}
    run = s5_rankings.run(
        rankings(),
        workspace=workspace,
        name="rankings",
        round=1,
        parents=parents,
        console=Quiet(),
        people=lambda w, tasks: rank(w, tasks, ["ann", "bob"], "train"),
    )
    rows = [json.loads(line) for line in run.file("rankings.jsonl").read_text().splitlines()]
    assert len(rows) == 8 + 4  # half of the tasks have a second labeler
    assert all([len(tier) for tier in row["tiers"]] == [1, 2] for row in rows)


def test_held_out_labelers_never_train(workspace: Workspace):
    parents = {"samples": samples_run(workspace, read_prompts(prompts_run(workspace))[:2])}
    with pytest.raises(ValueError, match="heldout"):
        s5_rankings.run(
            rankings(cohort="heldout"),
            workspace=workspace,
            name="rankings",
            round=1,
            parents=parents,
            console=Quiet(),
            people=lambda w, tasks: rank(w, tasks, ["eve", "zoe"], "heldout"),
        )
