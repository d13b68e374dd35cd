"""Prompts, labelers, completions and tasks: added once, refused when they contradict what is known."""

from dataclasses import replace

import pytest

from instructloop.core.records import Completion, Prompt
from instructloop.store import Labeler, TaskItem


def test_prompts_come_back_as_they_were_sorted_by_id(desk):
    made = [
        Prompt.make(
            "ünï\tcode \U0001f9a6\n", source="customer", user="u", split="test", kind="few_shot", category="chat"
        ),
        Prompt.make("bare", source="labeler", user="v"),
    ]
    assert desk.store.add_prompts(made) == 2
    assert desk.store.prompts() == sorted(made, key=lambda prompt: prompt.id)
    assert desk.store.prompts(split="test") == made[:1]
    assert desk.store.prompts(source="labeler") == made[1:]
    assert desk.store.prompts(split="test", source="labeler") == []


def test_a_prompt_is_added_once(desk):
    prompt = Prompt.make("p", source="labeler", user="v")
    assert desk.store.add_prompts([prompt, prompt]) == 1
    assert desk.store.add_prompts(iter([prompt])) == 0
    assert desk.store.prompts() == [prompt]


def test_a_prompt_gains_the_split_it_lacked_and_never_changes_it(desk):
    prompt = Prompt.make("p", source="labeler", user="v")
    desk.store.add_prompts([prompt, Prompt.make("q", source="labeler", user="v")])
    desk.store.add_prompts([replace(prompt, split="test", category="chat")])
    desk.store.add_prompts([prompt])
    assert desk.store.prompts(split="test") == [replace(prompt, split="test", category="chat")]
    with pytest.raises(ValueError, match=f"prompt {prompt.id} is known with split 'test', not 'train'"):
        desk.store.add_prompts([replace(prompt, split="train")])
    assert desk.store.prompts(split="train") == []


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (Prompt.make(" ", source="labeler", user="v"), "text is blank"),
        (Prompt.make("p", source="labeler", user="v", split="dev"), "split 'dev' must be one of test, train, valid"),  # type: ignore[arg-type]
        (Prompt.make("p", source="labeler", user="v", kind="odd"), "kind 'odd' must be one of"),  # type: ignore[arg-type]
        (Prompt.make("p", source="labeler", user="v", category="odd"), "category 'odd' must be one of"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_prompt_is_refused_and_none_of_its_batch_kept(desk, prompt, problem):
    with pytest.raises(ValueError, match=problem):
        desk.store.add_prompts([Prompt.make("good", source="labeler", user="v"), prompt])
    assert desk.store.prompts() == []


def test_completions_come_back_as_they_were(desk):
    prompt = desk.prompts(1)[0]
    made = [
        Completion.make(
            prompt.id,
            text,
            policy=policy,
            policy_run="r",
            index=0,
            sampling={"temperature": 0.7, "seed": 3},
            finished=False,
        )
        for text, policy in (("x", "sft"), ("", "ppo"))
    ]
    assert desk.store.add_completions(made) == 2
    assert desk.store.add_completions(made) == 0
    assert desk.store.completions() == sorted(made, key=lambda completion: completion.id)
    assert desk.store.completions(policy="ppo") == made[1:]
    assert desk.store.completions(ids=[made[0].id]) == made[:1]
    with pytest.raises(ValueError, match="completion completion-0 is not in the store"):
        desk.store.completions(ids=["completion-0"])


def test_a_completion_belongs_to_a_known_prompt_and_does_not_change(desk):
    made = desk.completions(desk.prompts(1)[0], 1)[0]
    with pytest.raises(ValueError, match="known with other content"):
        desk.store.add_completions([replace(made, sampling={"temperature": 0.5})])
    with pytest.raises(ValueError, match="prompt nowhere is not in the store"):
        desk.store.add_completions([replace(made, id="completion-1", prompt_id="nowhere")])


def test_a_labeler_keeps_cohort_and_origin(desk):
    desk.store.add_labeler("eve", "heldout", now=desk.now, origin="person")
    desk.store.add_labeler("eve", "heldout", now=desk.later(9), origin="person")
    assert Labeler("eve", "heldout", "person") in desk.store.labelers(cohort="heldout")
    assert Labeler("eve", "heldout", "person") not in desk.store.labelers(cohort="train")
    for cohort, origin in (("train", "person"), ("heldout", "simulated")):
        with pytest.raises(ValueError, match="labeler eve is known with cohort 'heldout' and origin 'person'"):
            desk.store.add_labeler("eve", cohort, now=desk.now, origin=origin)
    with pytest.raises(ValueError, match="cohort 'odd' must be one of"):
        desk.store.add_labeler("mallory", "odd", now=desk.now)


def test_opening_again_opens_nothing(desk):
    items = [TaskItem(prompt.id) for prompt in desk.prompts(3)]
    common = {"overlap": 2, "cohort": "train", "now": desk.now}
    assert desk.store.open_tasks("s", "demonstrate", items[:2] + items[:1], **common) == 2
    assert desk.store.open_tasks("s", "demonstrate", items, **common) == 1
    assert desk.store.open_tasks("other", "demonstrate", items, **common) == 3
    progress = desk.store.progress("s")
    assert (progress.num_tasks, progress.num_judgements_wanted, progress.num_remaining) == (3, 6, 6)
    assert [one.task_set for one in desk.store.task_sets()] == ["other", "s"]


def test_an_item_may_have_its_own_overlap(desk):
    first, second = desk.prompts(2)
    items = [TaskItem(first.id), TaskItem(second.id, overlap=5)]
    desk.store.open_tasks("s", "demonstrate", items, overlap=1, cohort="train", now=desk.now)
    assert desk.store.progress("s").num_judgements_wanted == 6
    with pytest.raises(ValueError, match="is open with overlap 5, not 1"):
        desk.store.open_tasks("s", "demonstrate", [TaskItem(second.id)], overlap=1, cohort="train", now=desk.now)


def test_the_same_question_may_go_to_two_cohorts(desk):
    item = TaskItem(desk.prompts(1)[0].id)
    for cohort in ("train", "heldout"):
        assert desk.store.open_tasks("s", "demonstrate", [item], overlap=1, cohort=cohort, now=desk.now) == 1
        desk.write(desk.claim("s", f"{cohort}-ann"))
    assert desk.store.progress("s").labelers == [("heldout-ann", 1), ("train-ann", 1)]


def test_tasks_that_cannot_be_done_are_refused(desk):
    one, two = desk.prompts(2)
    a, b = (completion.id for completion in desk.completions(one, 2))
    other = desk.completions(two, 1)[0].id
    cases = [
        ("demonstrate", TaskItem("nowhere"), "prompt nowhere is not in the store"),
        ("demonstrate", TaskItem(one.id, (a,)), "without completions"),
        ("demonstrate", TaskItem(one.id, overlap=0), "overlap 0 .* must be at least 1"),
        ("compare", TaskItem(one.id, (a,)), "at least 2"),
        ("compare", TaskItem(one.id, (a, a)), "given twice"),
        ("compare", TaskItem(one.id, (a, "nothing")), "completion nothing is not in the store"),
        ("compare", TaskItem(one.id, (a, other)), f"completion {other} answers prompt {two.id}"),
        ("judge", TaskItem(one.id), "kind 'judge' must be one of"),
    ]
    for kind, item, problem in cases:
        with pytest.raises(ValueError, match=problem):
            desk.store.open_tasks("s", kind, [item], overlap=1, cohort="train", now=desk.now)
    assert desk.store.task_sets() == []
    desk.store.open_tasks("s", "compare", [TaskItem(one.id, (a, b))], overlap=1, cohort="train", now=desk.now)
    with pytest.raises(ValueError, match="task set 's' holds tasks of kind 'compare', not 'demonstrate'"):
        desk.store.open_tasks("s", "demonstrate", [TaskItem(one.id)], overlap=1, cohort="train", now=desk.now)


def test_thousands_are_added_in_bulk(desk):
    prompts = desk.prompts(3000)  # more than one statement can name by id
    items = [TaskItem(prompt.id) for prompt in prompts]
    assert desk.store.open_tasks("s", "demonstrate", items, overlap=1, cohort="train", now=desk.now) == 3000
    assert len(desk.store.prompts()) == 3000
