"""Slots of tasks: an assignment's state, a task's counters, and the end of leases that ran out."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, literal_column, select, update

from instructloop.store import tables as t

# Literals, not parameters: only so does the planner see that the partial indexes of leases and open tasks apply.
LEASED = t.assignment.c.state == literal_column("'leased'")
STALE = (
    select(t.assignment.c.id, t.assignment.c.task_id)
    .where(LEASED, t.assignment.c.expires_at <= bindparam("now"))
    .order_by(t.assignment.c.expires_at, t.assignment.c.id)
    .with_for_update(skip_locked=True)
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
