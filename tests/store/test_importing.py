"""Demonstrations and rankings from outside: kept with their origin, counted, the same import twice being one."""

import pytest

from instructloop.core.records import Prompt
from instructloop.store import Imported, ImportedDemonstration, ImportedRanking, Labeler

ORIGIN = {"origin": "import:set", "labeler": "set-crowd", "cohort": "train"}


def prompt(text, split="train"):
    return Prompt.make(text, source="import:set", user="set", split=split)


def test_demonstrations_become_rows_with_their_origin(desk):
    rows = [ImportedDemonstration(prompt("p"), "answer"), ImportedDemonstration(prompt("q", "valid"), "other", "jo")]
    assert desk.store.import_demonstrations(rows, **ORIGIN, now=desk.now) == Imported(2, 2, {})
    found = {row.prompt.text: row for row in desk.store.demonstrations(["import:set"], ["train"])}
    assert {(row.text, row.labeler, row.origin) for row in found.values()} == {
        ("answer", "set-crowd", "import:set"),
        ("other", "jo", "import:set"),
    }
    assert found["q"].prompt == prompt("q", "valid")
    assert Labeler("jo", "train", "import:set") in desk.store.labelers()
    assert desk.store.progress("import:set").is_done


def test_rankings_become_rows_with_ties_and_no_order_of_presentation(desk):
    row = ImportedRanking(
        prompt("p"),
        ["worst", "best", "also best"],
        [[1, 2], [0]],
        policies=["human", "m", "human"],
        ratings=[1, 7, None],
    )
    assert desk.store.import_rankings([row], **ORIGIN, now=desk.now, task_set="mine") == Imported(1, 1, {})
    (stored,) = desk.store.rankings(["mine"], ["train"])
    text = {completion.id: completion.text for completion in stored.completions}
    assert [{text[key] for key in tier} for tier in stored.tiers] == [{"best", "also best"}, {"worst"}]
    assert {text[key]: rating for key, rating in stored.ratings.items()} == {"worst": 1, "best": 7, "also best": None}
    assert {completion.text: completion.policy for completion in stored.completions} == {
        "worst": "human",
        "best": "m",
        "also best": "human",
    }
    assert stored.shown == ()
    assert {completion.policy_run for completion in stored.completions} == {"import:set"}
    assert [list(text)] == [sorted(text)]  # by id, so that best first in the source shows nowhere


def test_several_labelers_of_one_question_share_its_task(desk):
    rows = [ImportedRanking(prompt("p"), ["a", "b"], [[0], [1]], labeler=name) for name in ("x", "y", "z")]
    assert desk.store.import_rankings(rows[:2], **ORIGIN, now=desk.now).num_kept == 2
    assert desk.store.import_rankings(rows, **ORIGIN, now=desk.now) == Imported(3, 1, {"repeated": 2})
    progress = desk.store.progress("import:set")
    assert (progress.num_tasks, progress.num_judgements_wanted, progress.num_submitted) == (1, 3, 3)


def test_rows_that_are_no_good_are_counted_by_reason(desk):
    good = ImportedRanking(prompt("p"), ["a", "b"], [[0], [1]])
    rows = [
        good,
        good,
        ImportedRanking(prompt("p"), ["a", "b"], [[1], [0]]),
        ImportedRanking(prompt(" "), ["a", "b"], [[0], [1]]),
        ImportedRanking(prompt("q"), ["a", " "], [[0], [1]]),
        ImportedRanking(prompt("q"), ["a"], [[0]]),
        ImportedRanking(prompt("q"), ["a", "a"], [[0], [1]]),
        ImportedRanking(prompt("q"), ["a", "b"], [[0]]),
        ImportedRanking(prompt("q"), ["a", "b"], [[0], [2]]),
        ImportedRanking(prompt("q"), ["a", "b"], [[0], [1]], ratings=[1, 9]),
        ImportedRanking(prompt("q"), ["a", "b"], [[0], [1]], policies=["one"]),
    ]
    done = desk.store.import_rankings(rows, **ORIGIN, now=desk.now)
    assert done == Imported(
        11,
        1,
        {
            "another answer of the same labeler": 1,
            "completion is blank": 1,
            "fewer than 2 completions": 1,
            "policies or ratings are not as many as completions": 1,
            "prompt is blank": 1,
            "rating 9": 1,
            "repeated": 1,
            "tiers do not cover the completions, each once": 2,
            "two equal completions": 1,
        },
    )
    assert done.num_read == done.num_kept + sum(done.dropped.values())


def test_an_import_done_twice_is_done_once(desk):
    rows = [ImportedDemonstration(prompt(f"p{i}"), "answer") for i in range(3)]
    desk.store.import_demonstrations(rows, **ORIGIN, now=desk.now)
    before = list(desk.store.demonstrations(["import:set"], ["train"]))
    again = desk.store.import_demonstrations(rows, **ORIGIN, now=desk.later(999))
    assert again == Imported(3, 0, {"repeated": 3})
    assert list(desk.store.demonstrations(["import:set"], ["train"])) == before


def test_an_import_that_fails_half_way_leaves_nothing(desk):
    def rows():
        yield ImportedDemonstration(prompt("p"), "answer")
        raise OSError("the file ends here")

    with pytest.raises(OSError, match="ends here"):
        desk.store.import_demonstrations(rows(), **ORIGIN, now=desk.now)
    assert desk.store.prompts() == []
    assert desk.store.task_sets() == []


def test_an_origin_must_say_that_it_is_an_import(desk):
    for origin in ("person", "import:", "import: "):
        with pytest.raises(ValueError, match="must be import:NAME"):
            desk.store.import_demonstrations([], origin=origin, labeler="x", cohort="train", now=desk.now)


def test_a_prompt_of_the_test_split_cannot_come_back_as_a_training_prompt(desk):
    desk.store.add_prompts([prompt("p", "test")])
    with pytest.raises(ValueError, match="known with split 'test', not 'train'"):
        desk.store.import_demonstrations([ImportedDemonstration(prompt("p"), "a")], **ORIGIN, now=desk.now)
