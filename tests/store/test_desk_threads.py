"""Many labelers at their desks at once, two tabs each: no task over its overlap, nothing lost, nothing twice."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from instructloop.store.desk import StaleDraft

NAMES = [f"t{i}" for i in range(8)]
TIMES = {"active_seconds": 3.0, "wall_seconds": 4.0, "instruction": 1}


def add_team(desk):
    for name in NAMES:
        desk.store.add_labeler(name, "train", now=desk.now)


def counted(desk, query):
    with desk.store._database.read.connect() as connection:
        return connection.execute(text(query)).scalar()


def work_until_nothing_is_left(desk, name):
    """Do all that is offered, with drafts and every answer sent twice; return the submissions by task."""
    desk_of, done = desk.store.desk, []
    while assignment := desk_of.next_assignment(name, desk.now):
        desk_of.save_draft(assignment.id, name, 1, {"text": "…"}, desk.now)
        answer = desk.form(assignment) if assignment.kind == "compare" else f"{name} on {assignment.task_id}"
        sent = {
            desk_of.submit(assignment.id, name, answer, key=f"{name} {assignment.id}", now=desk.now, **TIMES)
            for _ in range(2)
        }
        assert len(sent) == 1
        done.append((assignment.task_id, *sent))
    return done


def test_eight_labelers_do_every_task_as_often_as_wanted_and_lose_nothing(desk):
    desk.writing(15, overlap=2)
    desk.ranking(20, k=2, overlap=3)
    desk.writing(4, overlap=8, task_set="calibration")
    add_team(desk)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda name: work_until_nothing_is_left(desk, name), NAMES))
    for name in NAMES:  # on PostgreSQL a task is passed over while another holds its row: somebody comes back for it
        done.append(work_until_nothing_is_left(desk, name))
    per_task = Counter(task for one in done for task, _ in one)
    [writing, ranking] = [desk.store.progress(task_set) for task_set in ("writing", "ranking")]
    assert (writing.num_submitted, writing.num_surplus, writing.is_done) == (30, 0, True)
    assert (ranking.num_submitted, ranking.num_surplus, ranking.is_done) == (60, 0, True)
    assert Counter(per_task.values())[2] >= 15
    assert Counter(per_task.values())[3] >= 20
    sent = [submission for one in done for _, submission in one]
    assert len(sent) == len(set(sent)) == counted(desk, "SELECT count(*) FROM submission")
    assert counted(desk, "SELECT count(*) FROM circumstance") == len(sent)
    assert counted(desk, "SELECT count(*) FROM draft") == 0
    assert counted(desk, "SELECT count(*) FROM instruction") == 2  # both first texts, each stored once


def test_of_eight_tabs_saving_at_once_the_highest_rev_stays(desk):
    desk.writing(1)
    mine = desk.claim("writing", "train-ann")

    def save(rev):
        try:
            return desk.store.desk.save_draft(mine.id, "train-ann", rev, {"rev": rev}, desk.now).rev
        except StaleDraft as stale:
            return -stale.rev

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(save, range(1, 33)))
    draft = desk.store.desk.assignment(mine.id, "train-ann").draft
    assert (draft.rev, draft.body) == (32, {"rev": 32})
    assert kept[-1] == 32
    assert all(rev == number or -rev > number for number, rev in enumerate(kept, start=1))


def test_a_labeler_with_two_tabs_holds_one_task(desk):
    desk.writing(10)
    with ThreadPoolExecutor(8) as pool:
        held = {one.id for one in pool.map(lambda _: desk.store.desk.next_assignment("train-ann", desk.now), range(16))}
    assert len(held) == 1
    assert desk.store.progress("writing").num_leased == 1


def test_a_revision_sent_by_eight_threads_is_stored_once(desk):
    desk.writing(1)
    mine = desk.claim("writing", "train-ann")
    desk.store.desk.submit(mine.id, "train-ann", "one", key="k", now=desk.now, **TIMES)

    def revise(_):
        return desk.store.desk.revise(mine.id, "train-ann", "two", key="r", now=desk.now, **TIMES)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(revise, range(16)))) == 1
    assert counted(desk, "SELECT count(*) FROM submission") == 2


def test_prompts_and_annotations_sent_by_eight_threads_are_stored_once(desk):
    [prompt] = desk.prompts(1)

    def write(_):
        desk.store.desk.annotate(prompt.id, "train-ann", "chat", {"ambiguous": True}, desk.now)
        return desk.store.desk.write_prompt("train-ann", "plain", "Name a river.", [], "", desk.now)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(write, range(16)))) == 1
    assert counted(desk, "SELECT count(*) FROM annotation") == 1
    assert counted(desk, "SELECT count(*) FROM written_prompt") == 1
