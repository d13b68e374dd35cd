"""Work on tasks inside one transaction: claim, keep alive, skip, submit, revise."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, bindparam, insert, literal_column, select, update

from instructloop.core.records import content_id
from instructloop.store import tables as t
from instructloop.store.bulk import insert_all
from instructloop.store.catalogue import completion_of, prompt_of
from instructloop.store.checks import check_text, check_time
from instructloop.store.forms import checked_form, presentation_order
from instructloop.store.rows import Assignment, ComparisonForm
from instructloop.store.tasks import check_task_sets

# Literals, not parameters: only so does the planner see that the partial indexes of leases and open tasks apply.
LEASED = t.assignment.c.state == literal_column("'leased'")
LABELER = select(t.labeler.c.cohort).where(t.labeler.c.id == bindparam("labeler"))
STALE = (
    select(t.assignment.c.id, t.assignment.c.task_id)
    .where(LEASED, t.assignment.c.expires_at <= bindparam("now"))
    .order_by(t.assignment.c.expires_at, t.assignment.c.id)
    .with_for_update(skip_locked=True)
)
CANDIDATE = select(
    t.task.c.id.label("task_id"),
    t.task.c.kind.label("task_kind"),
    t.assignment.c.id.label("assignment_id"),
    t.prompt,
).join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
HELD = (
    CANDIDATE.join(t.assignment, t.assignment.c.task_id == t.task.c.id)
    .where(
        t.assignment.c.labeler_id == bindparam("labeler"),
        LEASED,
        t.task.c.task_set == bindparam("task_set"),
    )
    .order_by(t.task.c.priority.desc(), t.task.c.position)
    .limit(1)
)
OPEN = (
    CANDIDATE.outerjoin(
        t.assignment,
        (t.assignment.c.task_id == t.task.c.id) & (t.assignment.c.labeler_id == bindparam("labeler")),
    )
    .where(
        t.task.c.task_set == bindparam("task_set"),
        t.task.c.cohort == bindparam("cohort"),
        t.task.c.num_held < t.task.c.overlap,
        t.task.c.num_skipped < literal_column(str(t.SKIPS_BEFORE_SET_ASIDE)),
        t.assignment.c.id.is_(None) | (t.assignment.c.state == "expired"),
    )
    .order_by(t.task.c.priority.desc(), t.task.c.position)
    .limit(1)
    .with_for_update(of=t.task, skip_locked=True)
)
SHOWN = (
    select(t.completion)
    .join(t.task_completion, t.task_completion.c.completion_id == t.completion.c.id)
    .where(t.task_completion.c.task_id == bindparam("task"))
)
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
    .with_for_update(of=(t.assignment, t.task))
)
EARLIER = select(t.submission.c.id, t.submission.c.idempotency_key, t.submission.c.revision_of).where(
    t.submission.c.assignment_id == bindparam("assignment")
)
MOVE = (
    update(t.assignment)
    .where(t.assignment.c.id == bindparam("assignment"))
    .values(state=bindparam("to_state"), expires_at=bindparam("until"))
)
COUNT = (
    update(t.task)
    .where(t.task.c.id == bindparam("task"))
    .values(
        num_held=t.task.c.num_held + bindparam("held"),
        num_submitted=t.task.c.num_submitted + bindparam("submitted"),
        num_skipped=t.task.c.num_skipped + bindparam("skipped"),
    )
)


def move(connection: Connection, assignment_id: str, state: str, until: datetime | None = None) -> None:
    """Put an assignment into another state."""
    connection.execute(MOVE, {"assignment": assignment_id, "to_state": state, "until": until})


def count(connection: Connection, task_id: str, *, held: int = 0, submitted: int = 0, skipped: int = 0) -> None:
    """Add to a task's counters."""
    connection.execute(COUNT, {"task": task_id, "held": held, "submitted": submitted, "skipped": skipped})


def expire(connection: Connection, now: datetime) -> None:
    """End all leases that have run out and free their slots."""
    for row in connection.execute(STALE, {"now": now}).all():
        move(connection, row.id, "expired")
        count(connection, row.task_id, held=-1)


def claim(
    connection: Connection, task_set: str, labeler_id: str, now: datetime, lease_seconds: float
) -> Assignment | None:
    """Return the labeler's unfinished lease of this set, renewed, else a new one on the next open task, else None."""
    check_time(now)
    if lease_seconds <= 0:
        raise ValueError(f"lease_seconds {lease_seconds} must be positive")
    cohort = connection.execute(LABELER, {"labeler": labeler_id}).scalar()
    if cohort is None:
        raise ValueError(f"labeler {labeler_id!r} is not in the store")
    expire(connection, now)
    until = now + timedelta(seconds=lease_seconds)
    names = {"labeler": labeler_id, "task_set": task_set}
    held = connection.execute(HELD, names).mappings().first()
    row = held or connection.execute(OPEN, names | {"cohort": cohort}).mappings().first()
    if row is None:
        check_task_sets(connection, [task_set])
        return None
    prompt, task_id = prompt_of(row), str(row["task_id"])
    completions = {c.id: c for c in map(completion_of, connection.execute(SHOWN, {"task": task_id}).mappings())}
    shown = presentation_order(task_id, labeler_id, completions)
    assignment_id = row["assignment_id"] or content_id("assignment", task_id, labeler_id)
    if row["assignment_id"] is not None:
        move(connection, assignment_id, "leased", until)
    else:
        connection.execute(
            insert(t.assignment),
            {
                "id": assignment_id,
                "task_id": task_id,
                "labeler_id": labeler_id,
                "state": "leased",
                "shown": shown,
                "claimed_at": now,
                "expires_at": until,
            },
        )
    if held is None:
        count(connection, task_id, held=1)
    return Assignment(assignment_id, task_id, row["task_kind"], prompt, tuple(completions[c] for c in shown), until)


def find(connection: Connection, assignment_id: str, now: datetime) -> RowMapping:
    """Return an assignment with its task's kind and free slots, locked where the database locks rows.

    Leases that have run out end first: a slot whose holder is gone is free for whoever comes back to the task.
    """
    check_time(now)
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


def submit_demonstration(
    connection: Connection,
    assignment_id: str,
    text: str,
    *,
    now: datetime,
    key: str,
    seconds: float | None,
    revision_of: str | None = None,
) -> str:
    """Store a demonstration as one submission and return its id."""
    check_text("demonstration", text)
    row = find(connection, assignment_id, now)
    check_kind(row, "demonstrate")
    submission_id, is_new = record(connection, row, text, now, key=key, seconds=seconds, revision_of=revision_of)
    if is_new:
        connection.execute(insert(t.demonstration), {"submission_id": submission_id, "text": text})
    return submission_id


def submit_comparison(
    connection: Connection,
    assignment_id: str,
    form: ComparisonForm,
    *,
    now: datetime,
    key: str,
    revision_of: str | None = None,
) -> str:
    """Store a comparison, its ratings and flags as one submission and return its id."""
    row = find(connection, assignment_id, now)
    check_kind(row, "compare")
    tiers, ratings = checked_form(form, row["shown"])
    content = json.dumps([tiers, ratings], sort_keys=True)
    submission_id, is_new = record(
        connection, row, content, now, key=key, seconds=form.seconds, revision_of=revision_of
    )
    if is_new:
        connection.execute(insert(t.comparison), {"submission_id": submission_id, "tiers": tiers})
        insert_all(connection, t.rating, [{"submission_id": submission_id} | values for values in ratings])
    return submission_id


def check_kind(row: RowMapping, kind: str) -> None:
    """Refuse an answer of one kind to a task of the other."""
    if row["kind"] != kind:
        raise ValueError(f"assignment {row['id']} asks to {row['kind']}, not to {kind}")


def record(
    connection: Connection,
    row: RowMapping,
    content: str,
    now: datetime,
    *,
    key: str,
    seconds: float | None,
    revision_of: str | None,
) -> tuple[str, bool]:
    """Insert the submission's head, settle its slot, and return its id and whether it is new.

    The id is that of the content, so the same answer sent twice is one submission. ValueError: a key that already came
    with another answer; a first answer where there is one already; a revision of what was revised already.
    """
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
        insert(t.submission), values | {"origin": row["origin"], "seconds": seconds, "submitted_at": now}
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
