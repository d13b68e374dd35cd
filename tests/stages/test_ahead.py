"""What is ahead: which tasks would be opened, how many, what is done and frozen before, whose answers must be in."""

import random
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.core.records import Completion, Prompt
from instructloop.runs import Run
from instructloop.stages import asking, engine, s1_prompts, s2_demonstrations, s5_rankings
from instructloop.stages.ahead import Ahead, Opening, look
from instructloop.stages.prompts_file import prompts_digest, read_prompts, write_rows
from instructloop.stages.round import Recipe, Step, plan
from instructloop.store import ComparisonForm
from instructloop.workspace import Workspace

PROMPTS = [Prompt.make(f"question {i:02d} ?", source="customer", user=f"user-{i}") for i in range(20)]
WRITING = s2_demonstrations.Config(num_train=4, num_valid=1, sources=("customer",), cohort="train", overlap=2, seed=0)
RANKING = s5_rankings.Config(cohort="train", purpose="train", overlap=1, shared_fraction=0.5, shared_overlap=3, seed=0)
HELDOUT = RANKING.model_copy(update={"cohort": "heldout", "purpose": "evaluation"})


def sample(config, *, workspace, name, round, parents, console):
    """Two made-up completions for each of the first six prompts."""
    run = Run.start(
        workspace.runs, "s4_samples", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    rows = list[dict[str, object]]()
    for prompt in read_prompts(parents["prompts"])[:6]:
        for i in range(2):
            one = Completion.make(
                prompt.id, f"answer {i} of {name}", policy="sft", policy_run="r", index=i, sampling={}, finished=True
            )
            workspace.store.add_completions([one])
            rows.append({"prompt_id": prompt.id, "id": one.id})
    write_rows(run.file("completions.jsonl"), rows)
    return run.finish("completions.jsonl")


def load(workspace: Workspace) -> Recipe:
    cleaning = s1_prompts.Config(prefix_characters=40, max_per_user=9, valid_fraction=0.2, test_fraction=0.2, seed=0)
    to_samples = {"prompts": "prompts", "demonstrations": "demonstrations"}
    by_people = {"by_people": True, "asks": asking.RANKING}
    ranked = s5_rankings.run, "s5_rankings"
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
            WRITING,
            {"prompts": "prompts"},
            by_people=True,
            asks=asking.WRITING,
        ),
        Step("samples", sample, "s4_samples", s5_rankings.Config(**dict(RANKING)), to_samples),
        Step("rankings", *ranked, RANKING, {"samples": "samples"}, **by_people),
        Step("eval_samples", sample, "s4_samples", RANKING, {"prompts": "prompts"}),
        Step("eval_rankings", *ranked, HELDOUT, {"samples": "eval_samples"}, **by_people),
    )
    return Recipe("toy", steps, threads=1)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path, "microworld", people="app")


def go_on(workspace: Workspace) -> Ahead:
    """Do what is ahead as `run --until` does, and look again."""
    opening = look(workspace, load(workspace)).opening
    engine.run(workspace, load, Quiet(), until=opening and opening.step)
    return look(workspace, load(workspace))


def work(workspace: Workspace, cohort: str, limit: int | None = None) -> int:
    """Let three labelers of a cohort answer what is open to them; return how many answers that were."""
    store, now, done = workspace.store, workspace.now(), 0
    for number in range(3):
        name = f"{cohort}-{number}"
        store.add_labeler(name, cohort, now=now)  # type: ignore[arg-type]
        while (limit is None or done < limit) and (held := store.desk.next_assignment(name, now)):
            if held.kind == "demonstrate":
                store.submit_demonstration(held.id, f"answer by {name}", now=now, idempotency_key="1")
            else:
                ids = [one.id for one in held.completions]
                random.Random(name).shuffle(ids)
                form = {
                    "ratings": dict.fromkeys(ids, 4),
                    "flags": {one: {} for one in ids},
                    "tiers": [[i] for i in ids],
                }
                store.submit_comparison(held.id, ComparisonForm(**form), now=now, idempotency_key="1")
            done += 1
    return done


def test_before_anything_is_done_the_number_of_tasks_is_not_known(workspace: Workspace):
    ahead = look(workspace, load(workspace))
    assert ahead == Ahead(1, Opening("demonstrations", "demonstrate", "train", None, None), ("prompts",), (), {})
    assert workspace.store.task_sets() == []


def test_with_its_inputs_there_the_tasks_and_judgements_of_a_step_are_counted_and_none_is_opened(workspace: Workspace):
    engine.run(workspace, load, Quiet(), until="prompts")
    ahead = look(workspace, load(workspace))
    assert ahead == Ahead(1, Opening("demonstrations", "demonstrate", "train", 5, 10), (), (), {})  # 4 + 1, each twice
    assert workspace.store.task_sets() == []
    go_on(workspace)
    [opened] = workspace.store.task_sets()
    assert (opened.num_tasks, opened.num_judgements_wanted) == (5, 10)


def test_a_step_whose_way_is_clear_comes_before_one_that_waits(workspace: Workspace):
    engine.run(workspace, load, Quiet(), until="demonstrations")
    ahead = look(workspace, load(workspace))
    assert ahead.opening == Opening("eval_rankings", "compare", "heldout", None, None)
    assert (ahead.steps, ahead.waits_for) == (("eval_samples",), {})


def test_where_no_way_is_clear_the_answers_that_block_it_are_named(workspace: Workspace):
    engine.run(workspace, load, Quiet())
    ahead = look(workspace, load(workspace))
    sets = {row.kind: row.task_set for row in workspace.store.task_sets()}
    assert ahead.opening == Opening("rankings", "compare", "train", None, None)
    assert ahead.waits_for == {"demonstrations": sets["demonstrate"]}
    assert (ahead.steps, ahead.frozen) == (("demonstrations", "samples"), ("demonstrations",))


def test_answers_that_are_in_are_frozen_on_the_way_and_at_last_nothing_is_ahead(workspace: Workspace):
    engine.run(workspace, load, Quiet())
    assert work(workspace, "train") == 10
    after = go_on(workspace)
    assert {state.name: state.status for state in plan(workspace, load(workspace))}["rankings"] == "waiting"
    assert after.opening is None
    assert after.steps == after.frozen == ("rankings", "eval_rankings")
    assert after.waits_for.keys() == {"rankings", "eval_rankings"}
    wanted = {row.task_set: row.num_judgements_wanted for row in workspace.store.task_sets()}
    assert wanted[after.waits_for["rankings"]] == 6 + 3 * 2  # six tasks, half of them for three people
    assert work(workspace, "train") == work(workspace, "heldout") == 12
    assert go_on(workspace) == Ahead(1, None, (), (), {})


def test_steps_whose_people_are_simulated_are_never_asked_about(workspace: Workspace):
    steps = [step for step in load(workspace).steps if not step.waits_for_people]
    assert look(workspace, Recipe("toy", tuple(steps[:1]), threads=1)) == Ahead(1, None, ("prompts",), (), {})
