"""The loop waits for people in the app: it opens tasks, says how far they are and who is at it, then goes on."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.core.records import Prompt
from instructloop.runs import Run
from instructloop.stages import engine, s1_prompts, s2_demonstrations
from instructloop.stages.labels import People
from instructloop.stages.prompts_file import prompts_digest
from instructloop.stages.round import Recipe, Step, plan
from instructloop.store import Store
from instructloop.workspace import Workspace

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROMPTS = [Prompt.make(f"question {i:02d} ?", source="customer", user=f"user-{i}") for i in range(20)]


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def space(path: Path, clock: Clock) -> Workspace:
    made = Workspace.create(path, "microworld", people="app")
    return Workspace(made.root, made.config, now=clock)


def recipe(people: People | None = None) -> Callable[[Workspace], Recipe]:
    cleaning = s1_prompts.Config(prefix_characters=40, max_per_user=9, valid_fraction=0.2, test_fraction=0.2, seed=0)
    writing = s2_demonstrations.Config(
        num_train=4, num_valid=1, sources=("customer",), cohort="train", overlap=1, seed=0
    )
    steps = (
        Step(
            "prompts",
            s1_prompts.run,
            "s1_prompts",
            cleaning,
            inputs={"raw_prompts": prompts_digest(PROMPTS)},
            hooks={"raw": lambda: PROMPTS},
        ),
        Step(
            "demonstrations",
            s2_demonstrations.run,
            "s2_demonstrations",
            writing,
            {"prompts": "prompts"},
            hooks={"people": people} if people else {},
            by_people=True,
        ),
    )
    return lambda _: Recipe("toy", steps, threads=1)


def state(workspace: Workspace) -> tuple[str, str]:
    found = plan(workspace, recipe()(workspace))[1]
    return found.status, found.detail


def sign_up(store: Store, name: str) -> str:
    _, token = store.accounts.invite("labeler", "train", "", None, NOON)
    account = store.accounts.sign_up(token, name, f"{name.split()[0]}@example.org", "hash", NOON)
    assert account.labeler_id is not None
    return account.labeler_id


def write_all(workspace: Workspace, tasks: str) -> None:
    workspace.store.add_labeler("ann", "train", now=NOON)
    while assignment := workspace.store.claim(tasks, "ann", NOON):
        text = f"answer to {assignment.prompt.text}"
        workspace.store.submit_demonstration(assignment.id, text, now=NOON, idempotency_key="1")


def test_a_step_waits_says_who_is_at_it_and_goes_on_when_they_are_done(tmp_path: Path, clock: Clock):
    workspace, console = space(tmp_path, clock), Quiet()
    assert state(workspace)[0] == "blocked"
    states = engine.run(workspace, recipe(), console)
    assert states[1].status == "waiting"
    assert "demonstrations waits for people: 0 of 5 judgements are in" in console.messages
    assert state(workspace) == ("waiting", "0 of 5 judgements are in; at it now: nobody")
    ann, bob = sign_up(workspace.store, "Ann Lee"), sign_up(workspace.store, "Bob Oak")
    desk = workspace.store.desk
    held = {labeler: desk.next_assignment(labeler, NOON) for labeler in (ann, bob)}
    assert all(held.values())
    detail = state(workspace)[1]
    assert set(detail.removeprefix("0 of 5 judgements are in; at it now: ").split(", ")) == {"Ann Lee", "Bob Oak"}
    clock.now = NOON + timedelta(hours=6)  # their leases ran out long ago
    assert state(workspace) == ("waiting", "0 of 5 judgements are in; at it now: nobody")
    while assignment := desk.next_assignment(ann, clock.now):
        desk.submit(
            assignment.id,
            ann,
            f"answer to {assignment.prompt.text}",
            key="12345678",
            active_seconds=1,
            wall_seconds=1,
            instruction=1,
            now=clock.now,
        )
    assert state(workspace) == ("ready", "5 judgements are in: can be frozen")
    assert engine.run(workspace, recipe(), console)[1].status == "done"
    lines = Run.find(workspace.runs, "demonstrations").file("demonstrations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["labeler"] for row in rows] == [ann] * 5
    assert all(row["completion"] == f"answer to {row['prompt']}" for row in rows)


def test_the_same_answers_make_the_same_run_whoever_let_people_work(tmp_path: Path, clock: Clock):
    at_once, waiting = space(tmp_path / "at once", clock), space(tmp_path / "waiting", clock)
    engine.run(at_once, recipe(write_all), Quiet())
    engine.run(waiting, recipe(), Quiet())
    [tasks] = waiting.store.task_sets()
    write_all(waiting, tasks.task_set)
    engine.run(waiting, recipe(), Quiet())
    runs = [Run.find(workspace.runs, "demonstrations") for workspace in (at_once, waiting)]
    assert runs[0].id == runs[1].id
    assert runs[0].outputs == runs[1].outputs
