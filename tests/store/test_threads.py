"""Many at once: no task over its overlap, no answer lost, no "database is locked"."""

import multiprocessing
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from instructloop.store import Store


def test_eight_threads_never_exceed_the_overlap_and_lose_nothing(desk):
    desk.ranking(60, k=2, overlap=3)
    names = [f"t{i}" for i in range(8)]
    for name in names:
        desk.store.add_labeler(name, "train", now=desk.now)

    def work(name):
        done = []
        while assignment := desk.store.claim("ranking", name, desk.now):
            done.append(desk.rank(assignment, key=f"{name} {assignment.id}"))
        return done

    with ThreadPoolExecutor(8) as pool:
        sent = [submission for done in pool.map(work, names) for submission in done]
    rows = list(desk.store.rankings(["ranking"], ["train"]))
    assert sorted(sent) == [row.id for row in rows]
    assert Counter(row.prompt.id for row in rows) == {prompt.id: 3 for prompt in desk.prompts(60)}
    assert desk.store.progress("ranking").num_surplus == 0


def test_one_answer_sent_by_eight_threads_is_stored_once(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: desk.write(mine, key="once"), range(16)))
    assert [row.id for row in desk.store.demonstrations(["writing"], ["train"])] == list(ids)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # of PostgreSQL: test_places, without so many rows
def test_a_reader_sees_one_moment_while_others_write(desk):
    desk.writing(1200)
    for _ in range(700):
        assignment = desk.claim("writing", "train-ann")
        desk.write(assignment)
    rows = desk.store.demonstrations(["writing"], ["train"])
    first = next(rows)
    for _ in range(100):
        desk.write(desk.claim("writing", "train-bob"))
    assert len([first, *rows]) == 700
    assert desk.store.progress("writing").num_submitted == 800


def open_and_close(path):
    Store.open(path).close()
    return True


def test_several_processes_may_make_the_same_store_at_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(open_and_close, [tmp_path / "store.db"] * 8) == [True] * 8
