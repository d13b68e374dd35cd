"""One answer is stored once, corrected by a new row, and never changed."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError


def test_a_submission_sent_twice_is_one(desk):
    desk.ranking()
    mine = desk.claim("ranking", "train-ann")
    first = desk.rank(mine, key="once")
    assert desk.rank(mine, key="once", after=90, seconds=3.0) == first
    assert desk.rank(mine, key="lost my key") == first  # the same content is the same submission
    assert desk.store.progress("ranking").num_submitted == 1
    assert len(list(desk.store.rankings(["ranking"], ["train"]))) == 1


def test_a_key_used_for_something_else_is_refused(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    desk.write(mine, "one", key="once")
    with pytest.raises(ValueError, match="idempotency key 'once' was used"):
        desk.write(mine, "two", key="once")


def test_a_second_answer_must_be_a_revision(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    first = desk.write(mine, "one", key="a")
    with pytest.raises(ValueError, match=f"submitted already as {first}"):
        desk.write(mine, "two", key="b")
    second = desk.store.revise_demonstration(first, "two", now=desk.later(99), idempotency_key="b")
    assert [(row.id, row.text) for row in desk.store.demonstrations(["writing"], ["train"])] == [(second, "two")]
    assert desk.store.left_out(["writing"], ["train"]) == {"superseded": 1}
    assert desk.stored_text(first) == "one"
    assert desk.store.progress("writing").num_submitted == 1


def test_only_the_latest_revision_can_be_revised(desk):
    desk.ranking()
    mine = desk.claim("ranking", "train-ann")
    a, b, c = sorted(completion.id for completion in mine.completions)
    first = desk.rank(mine, key="a")
    tied = desk.form(mine, tiers=[[a, b, c]])
    second = desk.store.revise_comparison(first, tied, now=desk.later(70), idempotency_key="b")
    assert desk.store.revise_comparison(first, tied, now=desk.later(70), idempotency_key="b") == second
    with pytest.raises(ValueError, match=f"revised after {first} already as {second}"):
        desk.store.revise_comparison(
            first, desk.form(mine, tiers=[[a, b], [c]]), now=desk.later(80), idempotency_key="c"
        )
    third = desk.store.revise_comparison(second, desk.form(mine), now=desk.later(90), idempotency_key="d")
    assert len({first, second, third}) == 3  # the first answer again, as a correction, is another row
    (row,) = desk.store.rankings(["ranking"], ["train"])
    assert (row.id, row.tiers) == (third, ((a,), (b,), (c,)))


def test_a_revised_surplus_stays_surplus(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    desk.write(desk.claim("writing", "train-bob", after=1000), "other", after=1001)
    late = desk.write(mine, "late", after=1100)
    desk.store.revise_demonstration(late, "later", now=desk.later(1200), idempotency_key="r")
    assert [row.text for row in desk.store.demonstrations(["writing"], ["train"])] == ["other"]
    assert desk.store.left_out(["writing"], ["train"]) == {"surplus": 2}


@pytest.mark.parametrize("table", ["submission", "demonstration", "comparison", "rating"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {}"])
def test_answers_cannot_be_changed_or_deleted(desk, table, statement):
    desk.writing()
    desk.ranking()
    desk.write(desk.claim("writing", "train-ann"))
    desk.rank(desk.claim("ranking", "train-ann"))
    column = "origin = 'x'" if table == "submission" else "submission_id = 'x'"
    with (
        pytest.raises(DatabaseError, match=f"{table} is append-only"),
        desk.store._database.write.begin() as connection,
    ):
        connection.execute(text(statement.format(table, column)))
