"""Slots of tasks: an assignment's state, a task's counters, and the end of leases that ran out.

SQLite has one writer at a time. On PostgreSQL an assignment changes only under the row lock of its task; a transaction
waits for locks only at its beginning (its labeler, then tasks in the order of their ids), later it takes what is free
(SKIP LOCKED): so none waits for another in a circle. What was read before a lock is read again after it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, literal_column, select, update

from instructloop.store import tables as t

# Literals, not parameters: only so does the planner see that the partial indexes of leases and open tasks apply.
LEASED = t.assignment.c.state == literal_column("'leased'")
IS_STALE = t.assignment.c.expires_at <= bindparam("now")
STALE = (
    select(t.assignment.c.id, t.assignment.c.task_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .where(LEASED, IS_STALE)
    .order_by(t.assignment.c.expires_at, t.assignment.c.id)
    .with_for_update(of=t.task, skip_locked=True)
)
EXPIRE = (
    update(t.assignment)
    .where(t.assignment.c.id == bindparam("assignment"), LEASED, IS_STALE)
    .values(state="expired", expires_at=None)
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
    """End all leases that have run out and free their slots, but for tasks that others are at in this moment."""
    for row in connection.execute(STALE, {"now": now}).all():
        if connection.execute(EXPIRE, {"assignment": row.id, "now": now}).rowcount:
            count(connection, row.task_id, held=-1)


def wait_for_tasks(connection: Connection, *assignments: ColumnElement[bool]) -> None:
    """Lock the tasks of these assignments, as a transaction's first step; SQLite's write lock is as good."""
    if connection.dialect.name == "sqlite":
        return
    ids = select(t.assignment.c.task_id).where(*assignments)
    connection.execute(select(t.task.c.id).where(t.task.c.id.in_(ids)).order_by(t.task.c.id).with_for_update()).all()
