"""Answers from the app: one transaction with their circumstance, sent once however often, corrected without loss."""

from dataclasses import replace

import pytest
from sqlalchemy import text

from instructloop.core.records import FLAGS

TIMES = {"active_seconds": 42.5, "wall_seconds": 90.0, "instruction": 1}


def rows(desk, query, **names):
    with desk.store._database.read.connect() as connection:
        return connection.execute(text(query), names).all()


def circumstances(desk):
    return rows(
        desk,
        "SELECT submission_id, instruction_kind, instruction_version, active_seconds, wall_seconds FROM circumstance"
        " ORDER BY submission_id",
    )


@pytest.fixture
def writing(desk):
    desk.writing(1)
    return desk.claim("writing", "train-ann")


@pytest.fixture
def ranking(desk):
    desk.ranking(1, k=4)
    return desk.claim("ranking", "train-ann")


def submit(desk, assignment, answer, *, key="k", after=60.0, **times):
    return desk.store.desk.submit(assignment.id, "train-ann", answer, key=key, now=desk.later(after), **(TIMES | times))


def revise(desk, assignment, answer, *, key, after=120.0, **times):
    return desk.store.desk.revise(assignment.id, "train-ann", answer, key=key, now=desk.later(after), **(TIMES | times))


def test_a_submission_names_its_instruction_and_its_times(desk, writing):
    submission = submit(desk, writing, "an answer")
    assert circumstances(desk) == [(submission, "demonstrate", 1, 42.5, 90.0)]
    [(seconds, origin)] = rows(desk, "SELECT seconds, origin FROM submission")
    assert (seconds, origin) == (42.5, "simulated")
    [(markdown,)] = rows(desk, "SELECT markdown FROM instruction WHERE kind = 'demonstrate' AND version = 1")
    assert markdown == desk.store.desk.instruction("demonstrate").markdown


def test_a_submission_names_the_version_that_was_shown_not_the_newest(desk):
    desk.writing(2)
    old, new = desk.claim("writing", "train-ann"), desk.claim("writing", "train-bob")
    desk.store.desk.add_instruction("demonstrate", "# New rules", None, desk.later(10))
    assert desk.store.desk.assignment(old.id, "train-ann").instruction.version == 2
    first = submit(desk, old, "read the old rules")  # the page was open since before
    second = desk.store.desk.submit(
        new.id, "train-bob", "read the new ones", key="k", now=desk.later(60), **(TIMES | {"instruction": 2})
    )
    assert {one.submission_id: one.instruction_version for one in circumstances(desk)} == {first: 1, second: 2}


def test_the_same_submission_sent_again_is_one(desk, ranking):
    form = desk.form(ranking)
    first = submit(desk, ranking, form)
    assert submit(desk, ranking, form, after=61) == first
    assert submit(desk, ranking, form, after=62, key="another key", active_seconds=50.0) == first
    assert circumstances(desk) == [(first, "compare", 1, 42.5, 90.0)]
    with pytest.raises(ValueError, match="says something else"):
        submit(desk, ranking, replace(form, notes={ranking.completions[0].id: "oh"}), after=63)


def test_what_was_submitted_comes_back_as_it_was_sent(desk, ranking):
    a, b, c, d = (completion.id for completion in ranking.completions)
    flags = {key: dict.fromkeys(FLAGS, False) for key in (a, b, c, d)}
    flags[a] |= {"hallucination": None, "moral_judgment": True}
    form = desk.form(
        ranking,
        ratings={a: 7, b: None, c: 1, d: 4},
        flags=flags,
        tiers=[[c], [d, a], [b]],
        notes={b: "cut off"},
    )
    submission = submit(desk, ranking, form)
    shown = desk.store.desk.assignment(ranking.id, "train-ann").submission
    assert (shown.id, shown.submitted_at, shown.is_revision) == (submission, desk.later(60), False)
    assert shown.answer.ratings == form.ratings
    assert shown.answer.flags == flags
    assert [set(tier) for tier in shown.answer.tiers] == [{c}, {a, d}, {b}]
    assert shown.answer.notes == {b: "cut off"}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_comparison_leaves_no_question_merely_untouched(desk, ranking):
    first, *others = (completion.id for completion in ranking.completions)
    whole = desk.form(ranking)
    asked = dict.fromkeys(FLAGS, False)
    rest = dict.fromkeys(others, asked)
    for change, said in (
        ({"ratings": dict.fromkeys(others, 4)}, f"ratings: completion {first} has none"),
        ({"flags": rest}, f"fails_instruction of completion {first} is not answered"),
        ({"flags": rest | {first: asked | {"sexual_content": None}}}, "sexual_content .* must be true or false"),
        ({"tiers": [others]}, f"completion {first} is not ranked"),
    ):
        with pytest.raises(ValueError, match=said):
            submit(desk, ranking, replace(whole, **change))
    may_not_apply = asked | {"hallucination": None, "satisfies_constraint": None}
    assert submit(desk, ranking, replace(whole, flags=rest | {first: may_not_apply}))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("field", ["active_seconds", "wall_seconds"])
@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_times_that_no_clock_shows_are_refused(desk, writing, field, seconds):
    with pytest.raises(ValueError, match="seconds"):
        submit(desk, writing, "an answer", **{field: seconds})
    assert desk.store.desk.assignment(writing.id, "train-ann").state == "leased"


def test_an_answer_of_the_wrong_kind_is_refused(desk, writing, ranking):
    with pytest.raises(ValueError, match="asks to compare"):
        submit(desk, ranking, "a text")
    with pytest.raises(ValueError, match="asks to demonstrate"):
        submit(desk, writing, desk.form(ranking))


def test_a_revision_corrects_the_latest_and_keeps_all(desk, writing):
    first = submit(desk, writing, "teh answer")
    second = revise(desk, writing, "the answer", key="r1", after=100)
    third = revise(desk, writing, "the answer.", key="r2", after=200)
    assert dict(rows(desk, "SELECT id, revision_of FROM submission")) == {first: None, second: first, third: second}
    shown = desk.store.desk.assignment(writing.id, "train-ann").submission
    assert (shown.id, shown.is_revision, shown.answer) == (third, True, "the answer.")
    assert {one.submission_id for one in circumstances(desk)} == {first, second, third}
    assert [row.text for row in desk.store.demonstrations(["writing"], ["train"])] == ["the answer."]


def test_a_revision_sent_again_is_one_even_after_the_next(desk, writing):
    submit(desk, writing, "one")
    second = revise(desk, writing, "two", key="r1")
    assert revise(desk, writing, "two", key="r1", after=121) == second
    third = revise(desk, writing, "three", key="r2", after=200)
    assert revise(desk, writing, "two", key="r1", after=201) == second  # a retry that was long on its way
    assert desk.store.desk.assignment(writing.id, "train-ann").submission.id == third
    assert len(circumstances(desk)) == 3


def test_there_is_nothing_to_revise_before_a_submission(desk, writing):
    with pytest.raises(ValueError, match="no submission to revise"):
        revise(desk, writing, "an answer", key="r1")
