"""PostgreSQL, where writers run side by side: no counter drifts, nobody waits in a circle, no task is overlooked."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from instructloop.core.records import Prompt
from instructloop.store import TaskItem
from instructloop.store import tables as t
from instructloop.store.labelling import find

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
NAMES = [f"t{i}" for i in range(4)]


@pytest.fixture
def crowd(desk):
    for name in NAMES:
        desk.store.add_labeler(name, "train", now=desk.now)
    return desk


def check_counters(desk):
    """Counters are what they count, and no task has more than it wants."""
    with desk.store._database.read.connect() as connection:
        tasks = {row.id: row for row in connection.execute(select(t.task))}
        states = Counter(tuple(row) for row in connection.execute(select(t.assignment.c.task_id, t.assignment.c.state)))
    for key, task in tasks.items():
        submitted, skipped = states[key, "submitted"], states[key, "skipped"]
        held = states[key, "leased"] + submitted
        assert (task.num_held, task.num_submitted, task.num_skipped) == (held, submitted, skipped)
        assert held <= task.overlap
    return states


def test_whatever_many_do_at_once_the_counters_are_what_they_count(crowd):
    """Two tabs each, short leases that run out under them, few tasks: all that could collide does."""
    crowd.writing(6, overlap=2)
    errors = []

    def one_tab(number):
        name, chance = NAMES[number % len(NAMES)], random.Random(number)
        mine = None
        for step in range(25):
            now, act = crowd.later(step * 40 + chance.random() * 40), chance.random()
            try:
                if mine is None or act < 0.3:
                    mine = crowd.store.claim("writing", name, now, 60) or mine
                elif act < 0.6:
                    crowd.store.heartbeat(mine.id, now, 60)
                elif act < 0.75:
                    crowd.store.skip(mine.id, "unclear", now)
                else:
                    crowd.store.submit_demonstration(mine.id, f"{name} {mine.id}", now=now, idempotency_key="k")
            except ValueError as error:  # submitted by the other tab
                if "cannot be skipped" not in str(error):
                    errors.append(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one_tab, range(8)))
    assert errors == []
    states = check_counters(crowd)
    assert sum(states.values()) > 6


def test_two_tabs_of_one_labeler_hold_one_task(crowd):
    crowd.writing(8)
    start = threading.Barrier(4)

    def claim(_):
        start.wait()
        return crowd.store.claim("writing", "t0", crowd.now).id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(claim, range(4)))) == 1
    assert crowd.store.progress("writing").num_leased == 1


def test_a_locked_task_is_passed_over_for_the_next_and_waited_for_when_it_is_the_last(crowd):
    crowd.writing(2, overlap=2)
    first = crowd.claim("writing", "t0")
    with crowd.store._database.write.begin() as connection:  # somebody is at the first task
        find(connection, first.id, crowd.now)
        assert crowd.claim("writing", "t1").task_id != first.task_id
    crowd.write(crowd.claim("writing", "t1"))
    held = threading.Event()

    def hold():
        with crowd.store._database.write.begin() as connection:
            find(connection, first.id, crowd.now)
            held.set()
            threading.Event().wait(0.15)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    assert crowd.claim("writing", "t1").task_id == first.task_id
    holder.join()


def test_one_answer_sent_by_eight_is_one_and_one_revision_too(crowd):
    crowd.writing()
    mine = crowd.claim("writing", "t0")
    with ThreadPoolExecutor(8) as pool:
        (first,) = set(pool.map(lambda _: crowd.write(mine), range(8)))

    def revise(number):
        try:
            return crowd.store.revise_demonstration(first, f"{number}", now=crowd.now, idempotency_key=f"{number}")
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(revise, range(8)))
    assert sum(one.startswith("submission-") for one in made) == 1
    assert sum("revise that one" in one for one in made) == 7
    check_counters(crowd)


def test_the_same_prompts_tasks_and_labelers_may_be_added_by_several_at_once(crowd):
    prompts = [Prompt.make(f"p{i}", source="labeler", user="u", split="train") for i in range(50)]
    items = [TaskItem(prompt.id) for prompt in prompts]

    def add(_):
        crowd.store.add_prompts(prompts)
        crowd.store.add_labeler("new", "train", now=crowd.now)
        return crowd.store.open_tasks("s", "demonstrate", items, overlap=1, cohort="train", now=crowd.now)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(add, range(4))) == [0, 0, 0, 50]
