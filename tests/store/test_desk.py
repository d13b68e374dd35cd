"""The labeler's desk: which task comes next, whose it is, how long it is theirs, what waits."""

from collections import Counter
from datetime import timedelta

import pytest

from instructloop.store import TaskItem
from instructloop.store.claims import is_for_calibration
from instructloop.store.desk import NotTheirs


def following(desk, labeler="train-ann", after=0.0, kind=None):
    assignment = desk.store.desk.next_assignment(labeler, desk.later(after), kind)
    assert assignment is not None
    return assignment


def send(desk, assignment, labeler="train-ann", after=60.0, key="k", seconds=30.0, **changes):
    """Submit whatever the assignment asks for."""
    answer = desk.form(assignment, **changes) if assignment.kind == "compare" else "an answer"
    return desk.store.desk.submit(
        assignment.id,
        labeler,
        answer,
        key=key,
        active_seconds=seconds,
        wall_seconds=seconds,
        instruction=1,
        now=desk.later(after),
    )


def set_of(desk, assignment, labeler="train-ann"):
    item = desk.store.desk.assignment(assignment.id, labeler)
    assert item is not None
    return item.task_set


def open_one(desk, task_set, prompt, *, priority=0, at=0.0, cohort="train"):
    desk.store.open_tasks(
        task_set,
        "demonstrate",
        [TaskItem(prompt.id)],
        overlap=1,
        cohort=cohort,
        priority=priority,
        now=desk.later(at),
    )


def test_tasks_come_from_all_sets_by_priority_then_by_age(desk):
    old, new, urgent = desk.prompts(3)
    open_one(desk, "b-old", old)
    open_one(desk, "a-new", new, at=1)
    open_one(desk, "c-urgent", urgent, priority=1, at=2)
    seen = []
    for number in range(3):
        assignment = following(desk, after=10)
        seen.append(assignment.prompt)
        send(desk, assignment, key=str(number))
    assert seen == [urgent, old, new]
    assert desk.store.desk.next_assignment("train-ann", desk.later(20)) is None


def test_sets_of_other_cohorts_and_of_another_kind_are_passed_over(desk):
    desk.writing(1, cohort="heldout")
    assert desk.store.desk.next_assignment("train-ann", desk.now) is None
    desk.ranking(1)
    assert desk.store.desk.next_assignment("train-ann", desk.now, "demonstrate") is None
    assert following(desk, kind="compare").kind == "compare"


def test_what_is_held_comes_first_and_of_two_the_one_last_worked_on(desk):
    desk.writing(2)
    desk.ranking(2)
    write, rank = following(desk, kind="demonstrate"), following(desk, kind="compare", after=10)
    assert following(desk, after=20).id == rank.id
    desk.store.desk.heartbeat(write.id, "train-ann", desk.later(30))
    assert following(desk, after=40).id == write.id
    assert following(desk, after=50, kind="compare").id == rank.id


def test_a_labeler_who_is_not_in_the_store_is_refused(desk):
    with pytest.raises(ValueError, match="labeler 'nobody'"):
        desk.store.desk.next_assignment("nobody", desk.now)
    with pytest.raises(ValueError, match="labeler 'nobody'"):
        desk.store.desk.waiting("nobody", desk.now)


def test_one_task_in_ten_is_for_calibration_while_there_is_one_and_other_work(desk):
    desk.writing(47, task_set="work")
    desk.writing(4, task_set="calibration")  # the first four prompts again: no labeler minds
    sets = []
    while assignment := desk.store.desk.next_assignment("train-ann", desk.now):
        sets.append(set_of(desk, assignment))
        send(desk, assignment, key=str(len(sets)), after=0)
    # 47 of work; within each ten given, exactly one of calibration: 4 tens are whole after 40 tasks.
    assert [Counter(sets[start : start + 10])["calibration"] for start in (0, 10, 20, 30)] == [1, 1, 1, 1]
    assert Counter(sets) == {"work": 47, "calibration": 4}


def test_calibration_comes_at_other_places_for_other_labelers():
    places = {
        name: [n for n in range(200) if is_for_calibration(name, n)] for name in ("ann", "bob", "cy", "dee", "eve")
    }
    assert all(len(found) == 20 for found in places.values())
    assert len({tuple(found) for found in places.values()}) == 5
    assert len({n % 10 for found in places.values() for n in found}) == 10  # no place that one could learn


def test_calibration_is_not_offered_before_its_turn_and_never_counted(desk):
    desk.writing(2, task_set="calibration")
    assert desk.store.desk.next_assignment("train-bob", desk.now) is None  # bob's turn is the fourth of ten
    assert desk.store.desk.waiting("train-bob", desk.now) == {"demonstrate": 0, "compare": 0}
    desk.ranking(3)
    for number in range(3):
        send(desk, following(desk, "train-bob"), "train-bob", key=str(number))
    assert set_of(desk, following(desk, "train-bob"), "train-bob") == "calibration"


def test_a_lease_lasts_fifteen_minutes_or_three_medians_of_this_kind(desk):
    desk.writing(4)
    desk.ranking(1)
    for number, seconds in enumerate((100, 400, 2000)):  # median 400: 3 * 400 = 1200 > 900
        assignment = following(desk, kind="demonstrate")
        assert assignment.expires_at - desk.now == timedelta(minutes=15) if number < 2 else True
        send(desk, assignment, key=str(number), seconds=seconds, after=number)
    assert following(desk, kind="demonstrate").expires_at == desk.later(1200)
    assert following(desk, kind="compare").expires_at == desk.later(900)


def test_the_desk_shows_the_labeler_all_of_their_own_task(desk):
    desk.ranking(1, k=4, task_set="r00-rankings-12345678")
    mine = following(desk)
    item = desk.store.desk.assignment(mine.id, "train-ann")
    assert (item.id, item.task_id, item.kind, item.prompt) == (mine.id, mine.task_id, "compare", mine.prompt)
    assert item.completions == mine.completions
    assert (item.state, item.expires_at, item.draft, item.submission) == ("leased", desk.later(900), None, None)
    assert (item.task_set, item.instruction.kind, item.instruction.version) == ("r00-rankings-12345678", "compare", 1)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_evaluation_is_done_under_its_own_instruction(desk):
    desk.ranking(1, task_set="r01-eval_rankings-12345678")
    item = desk.store.desk.assignment(following(desk).id, "train-ann")
    assert item.instruction.kind == "evaluate"


def test_nobody_sees_or_touches_anothers_assignment(desk):
    desk.writing(1)
    theirs, desk_of = following(desk), desk.store.desk
    times = {"active_seconds": 1.0, "wall_seconds": 1.0, "instruction": 1, "now": desk.now}
    for name in (theirs.id, "assignment-0000000000000000"):
        assert desk_of.assignment(name, "train-bob") is None
        for act in (
            lambda name=name: desk_of.save_draft(name, "train-bob", 1, {"text": "mine now"}, desk.now),
            lambda name=name: desk_of.submit(name, "train-bob", "mine now", key="k", **times),
            lambda name=name: desk_of.revise(name, "train-bob", "mine now", key="k", **times),
            lambda name=name: desk_of.skip(name, "train-bob", "not mine", desk.now),
            lambda name=name: desk_of.heartbeat(name, "train-bob", desk.later(100)),
        ):
            with pytest.raises(NotTheirs):
                act()
    item = desk_of.assignment(theirs.id, "train-ann")
    assert (item.state, item.draft, item.submission) == ("leased", None, None)
    assert item.expires_at == desk.later(900)


def test_what_waits_is_what_the_labeler_could_get(desk):
    desk.writing(4)
    desk.ranking(2)
    desk.writing(2, cohort="heldout", task_set="for others")
    desk.writing(3, task_set="calibration")

    def waiting(labeler, after):
        return desk.store.desk.waiting(labeler, desk.later(after))

    assert waiting("train-ann", 0) == {"demonstrate": 4, "compare": 2}
    mine = desk.claim("writing", "train-ann")
    assert waiting("train-ann", 1) == {"demonstrate": 4, "compare": 2}
    assert waiting("train-bob", 1) == {"demonstrate": 3, "compare": 2}
    assert waiting("train-bob", 901) == {"demonstrate": 4, "compare": 2}  # ann's lease ran out, unnoticed so far
    assert desk.store.desk.heartbeat(mine.id, "train-ann", desk.later(902)) is not None
    send(desk, mine, after=903)
    assert waiting("train-ann", 904) == {"demonstrate": 3, "compare": 2}
    desk.store.desk.skip(desk.claim("writing", "train-ann", after=905).id, "train-ann", "unclear", desk.later(906))
    assert waiting("train-ann", 907) == {"demonstrate": 2, "compare": 2}
    assert waiting("train-bob", 907) == {"demonstrate": 3, "compare": 2}
    assert waiting("heldout-ann", 907) == {"demonstrate": 2, "compare": 0}


def test_who_is_at_it_are_the_holders_of_running_leases(desk):
    desk.writing(3)
    ann, bob = desk.claim("writing", "train-ann"), desk.claim("writing", "train-bob", after=600)
    desk.store.desk.save_draft(bob.id, "train-bob", 1, {"text": "so far"}, desk.later(700))
    at_work = desk.store.desk.who_is_at_it("writing", desk.later(800))
    assert [(one.labeler_id, one.assignment_id, one.saved_at) for one in at_work] == [
        ("train-ann", ann.id, None),
        ("train-bob", bob.id, desk.later(700)),
    ]
    assert [one.labeler_id for one in desk.store.desk.who_is_at_it("writing", desk.later(900))] == ["train-bob"]
    assert desk.store.desk.who_is_at_it("another set", desk.later(800)) == []
