"""What waits for labelers, and who is at it now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.checks import check_time
from instructloop.store.claims import CALIBRATION, HAS_ROOM, cohort_of
from instructloop.store.leases import LEASED
from instructloop.store.rows import TaskKind

theirs = t.assignment.alias("theirs")
IS_UNTOUCHED = (
    ~select(theirs.c.id)
    .where(theirs.c.task_id == t.task.c.id, theirs.c.labeler_id == bindparam("labeler"), theirs.c.state != "expired")
    .exists()
)
FREE = (
    select(t.task.c.kind, func.count())
    .where(
        t.task.c.cohort == bindparam("cohort"),
        t.task.c.task_set != CALIBRATION,
        IS_UNTOUCHED,
    )
    .group_by(t.task.c.kind)
)
ROOM = FREE.where(*HAS_ROOM)
# A lease that has run out counts in num_held until somebody next acts: its task is full only in name.
ABOUT_TO_BE_FREE = FREE.where(
    t.task.c.num_held >= t.task.c.overlap,
    HAS_ROOM[1],
    t.task.c.id.in_(select(t.assignment.c.task_id).where(LEASED, t.assignment.c.expires_at <= bindparam("now"))),
)
HELD = (
    select(t.task.c.kind, func.count())
    .join(t.assignment, t.assignment.c.task_id == t.task.c.id)
    .where(t.assignment.c.labeler_id == bindparam("labeler"), LEASED)
    .group_by(t.task.c.kind)
)
AT_WORK = (
    select(
        t.assignment.c.labeler_id,
        t.assignment.c.id.label("assignment_id"),
        t.assignment.c.claimed_at,
        t.assignment.c.expires_at,
        p.draft.c.saved_at,
    )
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .outerjoin(p.draft, p.draft.c.assignment_id == t.assignment.c.id)
    .where(t.task.c.task_set == bindparam("task_set"), LEASED, t.assignment.c.expires_at > bindparam("now"))
    .order_by(t.assignment.c.labeler_id, t.assignment.c.id)
)


@dataclass(frozen=True, slots=True)
class AtWork:
    """A labeler with a task in hand; `saved_at` is the last autosave."""

    labeler_id: str
    assignment_id: str
    claimed_at: datetime
    expires_at: datetime
    saved_at: datetime | None


def waiting(connection: Connection, labeler_id: str, now: datetime) -> dict[TaskKind, int]:
    """Return how many tasks of each kind a labeler could do now, what they hold included, calibration not."""
    check_time(now)
    names = {"labeler": labeler_id, "cohort": cohort_of(connection, labeler_id)}
    counts: dict[TaskKind, int] = {"demonstrate": 0, "compare": 0}
    for query, values in ((ROOM, names), (ABOUT_TO_BE_FREE, names | {"now": now}), (HELD, {"labeler": labeler_id})):
        for kind, number in connection.execute(query, values):
            counts[kind] += number
    return counts


def who_is_at_it(connection: Connection, task_set: str, now: datetime) -> list[AtWork]:
    """Return whose leases of a task set run now, sorted by labeler."""
    check_time(now)
    return [AtWork(**row) for row in connection.execute(AT_WORK, {"task_set": task_set, "now": now}).mappings()]
