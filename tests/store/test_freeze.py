"""Freezing: equal rows give equal bytes, nothing held out gets into training, no file is ever half written."""

import errno
import hashlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructloop.core.records import COHORTS, FLAGS, Prompt
from instructloop.store import Store, TaskItem, freeze_demonstrations, freeze_rankings

TRAIN = frozenset({"train"})
ALL_COHORTS = [frozenset(some) for size in range(1, 5) for some in combinations(COHORTS, size)]


def lines(frozen):
    return [json.loads(line) for line in frozen.path.read_text(encoding="utf-8").splitlines()]


def test_a_frozen_ranking_says_all_that_training_and_analysis_need(desk, tmp_path):
    desk.ranking()
    mine = desk.claim("ranking", "train-ann")
    a, b, c = sorted(completion.id for completion in mine.completions)
    submission = desk.rank(
        mine, tiers=[[c, a], [b]], ratings={a: 7, b: 1}, flags={a: {"hallucination": True}}, notes={b: "no"}
    )
    frozen = freeze_rankings(desk.store, ["ranking"], cohorts=TRAIN, purpose="train", path=tmp_path / "r.jsonl")
    (line,) = lines(frozen)
    assert line == {
        "id": submission,
        "prompt_id": mine.prompt.id,
        "prompt": "train prompt 0",
        "split": "train",
        "category": None,
        "user": "train-0",
        "labeler": "train-ann",
        "cohort": "train",
        "origin": "simulated",
        "task_set": "ranking",
        "completions": [
            {"id": one.id, "text": one.text, "policy": one.policy} for one in desk.completions(mine.prompt, 3)
        ],
        "shown": [one.id for one in mine.completions],
        "tiers": [[a, c], [b]],
        "ratings": {a: 7, b: 1, c: None},
        "flags": {
            key: {flag: True if (key, flag) == (a, "hallucination") else None for flag in FLAGS} for key in (a, b, c)
        },
    }


def test_a_frozen_demonstration_keeps_its_text_byte_for_byte(desk, tmp_path):
    desk.writing()
    submission = desk.write(desk.claim("writing", "train-ann"), " naïve\r\n\t\u2028“x” \U0001f9a6 ")
    frozen = freeze_demonstrations(desk.store, ["writing"], cohorts=TRAIN, purpose="train", path=tmp_path / "d.jsonl")
    (line,) = frozen.path.read_bytes().splitlines()
    assert json.loads(line) == {
        "id": submission,
        "prompt_id": desk.prompts(1)[0].id,
        "prompt": "train prompt 0",
        "completion": " naïve\r\n\t\u2028“x” \U0001f9a6 ",
        "split": "train",
        "category": None,
        "user": "train-0",
        "labeler": "train-ann",
        "cohort": "train",
        "origin": "simulated",
        "task_set": "writing",
    }
    assert list(json.loads(line)) == sorted(json.loads(line))
    assert frozen.sha256 == hashlib.sha256(frozen.path.read_bytes()).hexdigest()


def work_through(store, order, start):
    """Do the same work in some order, at some time, and freeze it."""
    prompts = [Prompt.make(f"p{i}", source="labeler", user=f"u{i}", split="train") for i in range(6)]
    store.add_prompts(prompts)
    for name in order:
        store.add_labeler(name, "train", now=start)
    items = [TaskItem(prompt.id) for prompt in prompts]
    store.open_tasks("s", "demonstrate", items, overlap=len(order), cohort="train", now=start)
    for i, name in enumerate(order * len(prompts)):
        now = start + timedelta(seconds=i)
        assignment = store.claim("s", name, now)
        key = f"{name} {assignment.task_id} {i}"
        store.submit_demonstration(assignment.id, f"{name} on {assignment.prompt.text}", now=now, idempotency_key=key)


def test_the_same_work_gives_the_same_bytes_on_any_day_and_in_any_order(tmp_path):
    frozen = []
    for i, order in enumerate((["ann", "bob"], ["bob", "ann"])):
        with Store.open(tmp_path / f"{i}.db") as store:
            work_through(store, order, datetime(2026, 1 + i, 1, i, tzinfo=UTC))
            path = tmp_path / f"{i}.jsonl"
            frozen.append(freeze_demonstrations(store, ["s"], cohorts=TRAIN, purpose="train", path=path))
    assert frozen[0].num_rows == 12
    assert frozen[0].path.read_bytes() == frozen[1].path.read_bytes()
    ids = [line["id"] for line in lines(frozen[0])]
    assert ids == sorted(ids)


def test_one_changed_word_changes_the_hash(desk, tmp_path):
    desk.writing()
    first = desk.write(desk.claim("writing", "train-ann"), "one word")
    hashes = set()
    for text in ("one word", "one world"):
        if text != "one word":
            desk.store.revise_demonstration(first, text, now=desk.now, idempotency_key="r")
        path = tmp_path / "d.jsonl"
        hashes.add(freeze_demonstrations(desk.store, ["writing"], cohorts=TRAIN, purpose="train", path=path).sha256)
    assert len(hashes) == 2


def test_what_is_left_out_is_counted(desk, tmp_path):
    for cohort in ("train", "heldout"):
        desk.writing(2, cohort=cohort)
    first = desk.write(desk.claim("writing", "train-ann"))
    desk.store.revise_demonstration(first, "better", now=desk.now, idempotency_key="r")
    desk.write(desk.claim("writing", "heldout-ann"))
    test_prompt = desk.prompts(1, split="test")[0]
    desk.store.open_tasks("t", "demonstrate", [TaskItem(test_prompt.id)], overlap=1, cohort="train", now=desk.now)
    desk.write(desk.claim("t", "train-ann"))
    path = tmp_path / "d.jsonl"
    frozen = freeze_demonstrations(desk.store, ["writing", "t"], cohorts=TRAIN, purpose="train", path=path)
    assert [line["completion"] for line in lines(frozen)] == ["better"]
    assert frozen.dropped == {"cohort heldout": 1, "superseded": 1, "prompt of the test split": 1}
    frozen = freeze_demonstrations(desk.store, ["writing", "t"], cohorts=TRAIN, purpose="evaluation", path=path)
    assert frozen.num_rows == 2


@pytest.mark.parametrize("freeze", [freeze_demonstrations, freeze_rankings])
def test_no_training_freeze_takes_the_heldout_cohort(desk, tmp_path, freeze):
    desk.writing(cohort="heldout")
    desk.ranking(cohort="heldout")
    name = "writing" if freeze is freeze_demonstrations else "ranking"
    for cohorts in ({"heldout"}, {"train", "heldout"}):
        with pytest.raises(ValueError, match="'heldout' may not enter training data"):
            freeze(desk.store, [name], cohorts=frozenset(cohorts), purpose="train", path=tmp_path / "x")
    assert freeze(desk.store, [name], cohorts=frozenset({"heldout"}), purpose="evaluation", path=tmp_path / "x")


def test_a_selection_that_means_nothing_is_refused(desk, tmp_path):
    desk.writing()
    cases = [
        (["writing"], frozenset(), "train", "cohorts must name at least one"),
        ([], TRAIN, "train", "task_sets must name at least one"),
        ("writing", TRAIN, "train", "must be a collection of names"),
        (["writing"], frozenset({"trian"}), "train", "cohort 'trian' must be one of"),
        (["wirting"], TRAIN, "train", "task set 'wirting' is not in the store"),
        (["writing"], TRAIN, "training", "purpose 'training' must be"),
    ]
    for task_sets, cohorts, purpose, problem in cases:
        with pytest.raises(ValueError, match=problem):
            freeze_demonstrations(desk.store, task_sets, cohorts=cohorts, purpose=purpose, path=tmp_path / "x")
    with pytest.raises(ValueError, match="holds tasks of kind 'demonstrate', not 'compare'"):
        freeze_rankings(desk.store, ["writing"], cohorts=TRAIN, purpose="train", path=tmp_path / "x")
    assert list(tmp_path.glob("*x*")) == []


def test_a_full_disk_leaves_the_old_file_and_no_half_one(desk, tmp_path, monkeypatch):
    desk.writing()
    desk.write(desk.claim("writing", "train-ann"))
    path = tmp_path / "d.jsonl"
    path.write_text("the old file")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        freeze_demonstrations(desk.store, ["writing"], cohorts=TRAIN, purpose="train", path=path)
    assert path.read_text() == "the old file"
    assert sorted(file.name for file in tmp_path.iterdir() if "jsonl" in file.name) == ["d.jsonl"]


NAMES = [f"{cohort}-{name}" for cohort in COHORTS for name in ("ann", "bob")]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(["claim", "claim", "submit", "submit", "skip", "revise", "beat"]),
        st.integers(0, 600),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, overlap=st.integers(1, 3))
def test_whatever_people_do_the_rules_hold(empty_store, tmp_path, actions, overlap):
    path = tmp_path / "copy.db"
    for old in tmp_path.glob("copy.db*"):
        old.unlink()
    shutil.copy(empty_store, path)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with Store.open(path) as store:
        prompts = [Prompt.make(f"p{i}", source="labeler", user="u", split=("train", "test")[i % 2]) for i in range(4)]
        store.add_prompts(prompts)
        for cohort in ("train", "heldout", "screening"):
            items = [TaskItem(prompt.id) for prompt in prompts]
            store.open_tasks("s", "demonstrate", items, overlap=overlap, cohort=cohort, now=now)
        held, sent, num_answers = {}, {}, 0
        for name, action, seconds in actions:
            now += timedelta(seconds=seconds)
            num_answers += act(store, name, action, held=held, sent=sent, now=now)
        check_counts(store, overlap, num_answers)
        check_freezes(store, tmp_path / "frozen.jsonl")


def act(store, name, action, *, held, sent, now):
    """Do one thing as one labeler; return how many answers it gave to the store."""
    if action == "claim" and (assignment := store.claim("s", name, now)):
        held[name] = assignment
        assert assignment.expires_at > now
    elif action == "submit" and name in held:
        assignment = held.pop(name)
        text, key = f"{name} wrote this", f"{name} {now}"
        sent[name] = store.submit_demonstration(assignment.id, text, now=now, idempotency_key=key)
        return 1
    elif action == "skip" and name in held:
        store.skip(held[name].id, "unclear", now)
    elif action == "beat" and name in held:
        store.heartbeat(held[name].id, now)
    elif action == "revise" and name in sent:
        text = f"{name} wrote better than {sent[name]}"
        sent[name] = store.revise_demonstration(sent[name], text, now=now, idempotency_key=f"{name} {now} again")
        return 1
    return 0


def check_counts(store, overlap, num_answers):
    """No task has more than its overlap, no labeler two answers on one, and no answer is lost."""
    rows = list(store.demonstrations(["s"], COHORTS))
    slots = [(row.prompt.id, row.cohort) for row in rows]
    assert all(slots.count(slot) <= overlap for slot in slots)
    assert len({(row.prompt.id, row.labeler) for row in rows}) == len(rows)
    progress = store.progress("s")
    assert progress.num_submitted == len(rows) == sum(number for _, number in progress.labelers)
    assert num_answers == len(rows) + sum(store.left_out(["s"], COHORTS).values())


def check_freezes(store, path):
    """Whatever cohorts are asked for: training data holds no held-out labeler and no held-out user."""
    for cohorts in ALL_COHORTS:
        if "heldout" in cohorts:
            with pytest.raises(ValueError, match="held-out labelers"):
                freeze_demonstrations(store, ["s"], cohorts=cohorts, purpose="train", path=path)
        else:
            frozen = freeze_demonstrations(store, ["s"], cohorts=cohorts, purpose="train", path=path)
            assert all(not line["labeler"].startswith("heldout") for line in lines(frozen))
            assert all(line["split"] != "test" and line["cohort"] in cohorts for line in lines(frozen))
