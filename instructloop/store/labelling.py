"""Work on a task once it is claimed, inside one transaction: keep alive, skip, submit, revise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from instructloop.core.records import content_id
from instructloop.store import tables as t
from instructloop.store.bulk import insert_all
from instructloop.store.checks import check_text, check_time
from instructloop.store.forms import checked_form
from instructloop.store.leases import count, expire, move, wait_for_tasks
from instructloop.store.rows import ComparisonForm

ASSIGNMENT = (
    select(
        t.assignment.c.id,
        t.assignment.c.task_id,
        t.assignment.c.labeler_id,
        t.assignment.c.state,
        t.assignment.c.shown,
        t.assignment.c.expires_at,
        t.task.c.kind,
        (t.task.c.overlap - t.task.c.num_held).label("num_free"),
        t.labeler.c.origin,
    )
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .join(t.labeler, t.labeler.c.id == t.assignment.c.labeler_id)
    .where(t.assignment.c.id == bindparam("assignment"))
)
EARLIER = select(t.submission.c.id, t.submission.c.idempotency_key, t.submission.c.revision_of).where(
    t.submission.c.assignment_id == bindparam("assignment")
)


def find(connection: Connection, assignment_id: str, now: datetime) -> RowMapping:
    """Return an assignment with its task's kind and free slots; nobody else can change either in this transaction.

    Leases that have run out end first: a slot whose holder is gone is free for whoever comes back to the task.
    """
    check_time(now)
    wait_for_tasks(connection, t.assignment.c.id == assignment_id)
    expire(connection, now)
    row = connection.execute(ASSIGNMENT, {"assignment": assignment_id}).mappings().first()
    if row is None:
        raise ValueError(f"assignment {assignment_id!r} is not in the store")
    return row


def heartbeat(connection: Connection, assignment_id: str, now: datetime, lease_seconds: float) -> datetime | None:
    """Prolong a lease, one that ran out too while its slot is free; return its end, None when it is lost or over."""
    row = find(connection, assignment_id, now)
    until = now + timedelta(seconds=lease_seconds)
    if row["state"] == "expired" and row["num_free"] > 0:
        count(connection, row["task_id"], held=1)
    elif row["state"] != "leased":
        return None
    move(connection, assignment_id, "leased", until)
    return until


def skip(connection: Connection, assignment_id: str, reason: str, now: datetime) -> None:
    """Give a task back for a reason, for good; a second skip changes nothing, a submitted one is a ValueError."""
    check_text("reason to skip", reason)
    row = find(connection, assignment_id, now)
    if row["state"] == "skipped":
        return
    if row["state"] not in ("leased", "expired"):
        raise ValueError(f"assignment {assignment_id} is {row['state']} and cannot be skipped")
    query = update(t.assignment).where(t.assignment.c.id == assignment_id)
    connection.execute(query.values(state="skipped", expires_at=None, skip_reason=reason.strip()))
    count(connection, row["task_id"], held=-1 if row["state"] == "leased" else 0, skipped=1)


@dataclass(frozen=True, slots=True)
class Sent:
    """When and how an answer was sent; `revision_of` names the submission that it corrects."""

    now: datetime
    key: str  # of idempotency
    seconds: float | None
    revision_of: str | None = None


def submit(connection: Connection, assignment_id: str, answer: str | ComparisonForm, sent: Sent) -> tuple[str, bool]:
    """Store a demonstration's text or a whole comparison as one submission; return its id and whether it is new."""
    if isinstance(answer, str):
        check_text("demonstration", answer)
    row = find(connection, assignment_id, sent.now)
    if isinstance(answer, str):
        return submit_demonstration(connection, row, answer, sent)
    return submit_comparison(connection, row, answer, sent)


def submit_demonstration(connection: Connection, row: RowMapping, text: str, sent: Sent) -> tuple[str, bool]:
    """Store a demonstration on an assignment."""
    check_kind(row, "demonstrate")
    submission_id, is_new = record(connection, row, text, sent)
    if is_new:
        connection.execute(insert(t.demonstration), {"submission_id": submission_id, "text": text})
    return submission_id, is_new


def submit_comparison(connection: Connection, row: RowMapping, form: ComparisonForm, sent: Sent) -> tuple[str, bool]:
    """Store a comparison with its ratings and flags on an assignment."""
    check_kind(row, "compare")
    tiers, ratings = checked_form(form, row["shown"])
    submission_id, is_new = record(connection, row, json.dumps([tiers, ratings], sort_keys=True), sent)
    if is_new:
        connection.execute(insert(t.comparison), {"submission_id": submission_id, "tiers": tiers})
        insert_all(connection, t.rating, [{"submission_id": submission_id} | values for values in ratings])
    return submission_id, is_new


def check_kind(row: RowMapping, kind: str) -> None:
    """Refuse an answer of one kind to a task of the other."""
    if row["kind"] != kind:
        raise ValueError(f"assignment {row['id']} asks to {row['kind']}, not to {kind}")


def record(connection: Connection, row: RowMapping, content: str, sent: Sent) -> tuple[str, bool]:
    """Insert the submission's head, settle its slot, and return its id and whether it is new.

    The id is that of the content, so the same answer sent twice is one submission. ValueError: a key that already came
    with another answer; a first answer where there is one already; a revision of what was revised already.
    """
    key, seconds, revision_of = sent.key, sent.seconds, sent.revision_of
    check_text("idempotency key", key)
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds {seconds} must be a number that is not negative")
    submission_id = content_id("submission", row["id"], revision_of or "", content)
    for earlier in connection.execute(EARLIER, {"assignment": row["id"]}).all():
        if earlier.id == submission_id:
            return submission_id, False
        if earlier.idempotency_key == key:
            raise ValueError(f"idempotency key {key!r} was used for {earlier.id}, which says something else")
        if earlier.revision_of == revision_of:
            what = "submitted" if revision_of is None else f"revised after {revision_of}"
            raise ValueError(f"assignment {row['id']} is {what} already as {earlier.id}; revise that one")
    if revision_of is None:
        settle(connection, row)
    values = {"id": submission_id, "assignment_id": row["id"], "revision_of": revision_of, "idempotency_key": key}
    connection.execute(
        insert(t.submission), values | {"origin": row["origin"], "seconds": seconds, "submitted_at": sent.now}
    )
    return submission_id, True


def settle(connection: Connection, row: RowMapping) -> None:
    """Count a first submission: its lease's slot, else (lease ran out, task skipped) a free one, else surplus."""
    is_accepted = row["state"] == "leased" or row["num_free"] > 0
    count(
        connection,
        row["task_id"],
        held=1 if is_accepted and row["state"] != "leased" else 0,
        submitted=1 if is_accepted else 0,
        skipped=-1 if row["state"] == "skipped" else 0,
    )
    move(connection, row["id"], "submitted" if is_accepted else "surplus")


def revised(connection: Connection, submission_id: str) -> str:
    """Return the assignment of the submission to be revised."""
    query = select(t.submission.c.assignment_id).where(t.submission.c.id == submission_id)
    assignment_id = connection.execute(query).scalar()
    if assignment_id is None:
        raise ValueError(f"submission {submission_id!r} is not in the store")
    return assignment_id
