"""How long a labeler takes: the length of their leases."""

from __future__ import annotations

from statistics import median

from sqlalchemy import Connection, bindparam, select

from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.rows import TaskKind

LEAST_LEASE_SECONDS = 900.0
MEDIANS_PER_LEASE = 3.0
NUM_RECENT = 50
"""A labeler's pace is that of so many of their newest tasks of a kind."""

RECENT_SECONDS = (
    select(p.circumstance.c.active_seconds)
    .join(t.submission, t.submission.c.id == p.circumstance.c.submission_id)
    .join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .where(
        t.assignment.c.labeler_id == bindparam("labeler"),
        t.task.c.kind == bindparam("kind"),
        t.submission.c.revision_of.is_(None),
    )
    .order_by(t.assignment.c.claimed_at.desc())
    .limit(NUM_RECENT)
)


def lease_seconds(connection: Connection, labeler_id: str, kind: TaskKind) -> float:
    """Return how long a lease of this labeler lasts: three times their median active time, 15 minutes at least."""
    seconds = connection.execute(RECENT_SECONDS, {"labeler": labeler_id, "kind": kind}).scalars().all()
    return max(LEAST_LEASE_SECONDS, MEDIANS_PER_LEASE * median(seconds)) if seconds else LEAST_LEASE_SECONDS
