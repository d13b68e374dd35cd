"""Drafts: what is typed survives, a stale tab cannot overwrite it, a submission takes its place."""

import pytest
from sqlalchemy import text

from instructloop.store.desk import Finished, StaleDraft


def num_drafts(desk):
    with desk.store._database.read.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM draft")).scalar()


@pytest.fixture
def mine(desk):
    desk.writing(1)
    return desk.claim("writing", "train-ann")


def save(desk, assignment, rev, body, after=10.0):
    return desk.store.desk.save_draft(assignment.id, "train-ann", rev, body, desk.later(after))


def submit(desk, assignment, answer, after=20.0, key="k"):
    return desk.store.desk.submit(
        assignment.id,
        "train-ann",
        answer,
        key=key,
        active_seconds=5.0,
        wall_seconds=9.0,
        instruction=1,
        now=desk.later(after),
    )


def draft_of(desk, assignment):
    return desk.store.desk.assignment(assignment.id, "train-ann").draft


def test_a_draft_is_kept_and_renews_the_lease(desk, mine):
    body = {"text": "Lieber Kunde, ü 中 \U0001f600", "ranks": {"c-1": 1}, "ratings": {"c-1": None}}
    saved = save(desk, mine, 3, body)
    assert (saved.rev, saved.saved_at, saved.expires_at) == (3, desk.later(10), desk.later(910))
    stored = draft_of(desk, mine)
    assert (stored.rev, stored.body, stored.saved_at) == (3, body, desk.later(10))
    save(desk, mine, 4, {"text": "changed"}, after=11)
    assert draft_of(desk, mine).body == {"text": "changed"}
    assert num_drafts(desk) == 1


def test_of_two_tabs_the_stale_one_is_told_and_changes_nothing(desk, mine):
    save(desk, mine, 1, {"text": "first tab"})
    save(desk, mine, 5, {"text": "second tab"})
    for rev in (2, 4, 5):
        with pytest.raises(StaleDraft) as caught:
            save(desk, mine, rev, {"text": "first tab again"}, after=12)
        assert caught.value.rev == 5
    assert draft_of(desk, mine).body == {"text": "second tab"}


def test_a_save_sent_again_is_no_stale_one(desk, mine):
    first = save(desk, mine, 2, {"text": "a", "n": [1, 2.5, None, True]}, after=10)
    again = save(desk, mine, 2, {"text": "a", "n": [1, 2.5, None, True]}, after=40)
    assert (again.rev, again.saved_at) == (first.rev, first.saved_at)
    assert again.expires_at == desk.later(940)


def test_a_submission_takes_the_drafts_place(desk, mine):
    save(desk, mine, 1, {"text": "nearly"})
    submit(desk, mine, "done")
    assert num_drafts(desk) == 0


def test_a_refused_submission_leaves_the_draft(desk, mine):
    save(desk, mine, 1, {"text": "nearly"})
    with pytest.raises(ValueError, match="blank"):
        submit(desk, mine, " ")
    with pytest.raises(ValueError, match="no version 9"):
        desk.store.desk.submit(
            mine.id,
            "train-ann",
            "done",
            key="k",
            active_seconds=1.0,
            wall_seconds=1.0,
            instruction=9,
            now=desk.later(20),
        )
    item = desk.store.desk.assignment(mine.id, "train-ann")
    assert (item.state, item.submission) == ("leased", None)  # the whole transaction was undone
    assert item.draft.body == {"text": "nearly"}


def test_a_late_save_does_not_bring_the_draft_back(desk, mine):
    save(desk, mine, 1, {"text": "nearly"})
    submit(desk, mine, "done")
    with pytest.raises(Finished) as caught:
        save(desk, mine, 2, {"text": "nearly"}, after=30)
    assert caught.value.state == "submitted"
    assert num_drafts(desk) == 0


def test_a_draft_outlives_the_lease_even_when_another_took_the_task(desk, mine):
    assert desk.claim("writing", "train-bob", after=1000).task_id == mine.task_id
    saved = save(desk, mine, 1, {"text": "I was at lunch"}, after=1001)
    assert saved.expires_at is None
    item = desk.store.desk.assignment(mine.id, "train-ann")
    assert (item.state, item.draft.body) == ("expired", {"text": "I was at lunch"})
    submit(desk, mine, "I was at lunch", after=1100)
    assert desk.store.desk.assignment(mine.id, "train-ann").state == "surplus"


def test_a_save_takes_up_a_lease_that_ran_out_while_nobody_else_came(desk, mine):
    saved = save(desk, mine, 1, {"text": "back"}, after=5000)
    assert saved.expires_at == desk.later(5900)
    assert desk.store.desk.next_assignment("train-bob", desk.later(5001)) is None


def test_a_skipped_task_keeps_its_draft_and_may_still_be_submitted(desk, mine):
    save(desk, mine, 1, {"text": "hm"})
    desk.store.desk.skip(mine.id, "train-ann", "too hard", desk.later(20))
    item = desk.store.desk.assignment(mine.id, "train-ann")
    assert (item.state, item.skip_reason, item.draft.body) == ("skipped", "too hard", {"text": "hm"})
    with pytest.raises(Finished):
        save(desk, mine, 2, {"text": "hm hm"}, after=21)
    submit(desk, mine, "after all", after=30)
    assert (desk.store.desk.assignment(mine.id, "train-ann").state, num_drafts(desk)) == ("submitted", 0)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "rev", "said"),
    [
        ({"text": "a\x00b"}, 1, "NUL"),
        ({"text": "\ud83d"}, 1, "not JSON"),
        ({"seconds": float("nan")}, 1, "not JSON"),
        ({"text": b"bytes"}, 1, "not JSON"),
        ({"text": "fine"}, 0, "rev 0"),
    ],
)
def test_what_no_database_keeps_is_refused_with_its_reason(desk, mine, body, rev, said):
    with pytest.raises(ValueError, match=said):
        save(desk, mine, rev, body)
    assert draft_of(desk, mine) is None


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_backslash_u0000_that_was_typed_is_text_like_any_other(desk, mine):
    save(desk, mine, 1, {"text": "\\u0000"})
    assert draft_of(desk, mine).body == {"text": "\\u0000"}
