"""Which task a labeler gets next, from one task set or from all that are open to them, and its lease."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, insert, literal_column, select

from instructloop.core.records import Cohort, content_id
from instructloop.store import tables as t
from instructloop.store.catalogue import completion_of, lock_labeler, prompt_of
from instructloop.store.checks import check_time
from instructloop.store.forms import presentation_order
from instructloop.store.leases import LEASED, count, expire, move, wait_for_tasks
from instructloop.store.rows import Assignment, TaskKind
from instructloop.store.tasks import check_task_sets

CALIBRATION = "calibration"
"""The task set mixed into normal work, whose tasks researchers have judged themselves (paper B.1)."""
TASKS_PER_CALIBRATION = 10
"""One in so many tasks is for calibration; Stiennon et al. 2020, appendix C, had 10-20 %."""

NUM_TRIES, TRY_SECONDS = 20, 0.025
"""How often and how long one waits for tasks that others are taking in this moment."""
LABELER = select(t.labeler.c.cohort).where(t.labeler.c.id == bindparam("labeler"))
CANDIDATE = select(
    t.task.c.id.label("task_id"),
    t.task.c.kind.label("task_kind"),
    t.assignment.c.id.label("assignment_id"),
    t.assignment.c.state.label("assignment_state"),
    t.prompt,
).join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
MINE = CANDIDATE.join(t.assignment, t.assignment.c.task_id == t.task.c.id).where(
    t.assignment.c.labeler_id == bindparam("labeler"), LEASED
)
HELD = (
    MINE.where(t.task.c.task_set == bindparam("task_set"))
    .order_by(t.task.c.priority.desc(), t.task.c.position)
    .limit(1)
)
HELD_ANYWHERE = MINE.order_by(t.assignment.c.expires_at.desc(), t.assignment.c.id).limit(1)
HAS_ROOM = (
    t.task.c.num_held < t.task.c.overlap,
    t.task.c.num_skipped < literal_column(str(t.SKIPS_BEFORE_SET_ASIDE)),
)


def open_to_labeler(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Return the query for tasks with room that the labeler has not finished, of one set and cohort, best first."""
    is_theirs = (t.assignment.c.task_id == t.task.c.id) & (t.assignment.c.labeler_id == bindparam("labeler"))
    return (
        query.outerjoin(t.assignment, is_theirs)
        .where(
            t.task.c.task_set == bindparam("task_set"),
            t.task.c.cohort == bindparam("cohort"),
            *HAS_ROOM,
            t.assignment.c.id.is_(None) | (t.assignment.c.state == "expired"),
        )
        .order_by(t.task.c.priority.desc(), t.task.c.position)
        .limit(1)
    )


OPEN = open_to_labeler(CANDIDATE)
STATE = select(t.assignment.c.state).where(t.assignment.c.id == bindparam("assignment"))
BEST = open_to_labeler(select(t.task.c.priority, t.task.c.opened_at, t.task.c.kind).select_from(t.task))


def sets_with_room() -> Select[Any]:
    """Return the query for the names of task sets with room, each found by one step through the index of open tasks."""
    names = select(func.min(t.task.c.task_set).label("name")).where(*HAS_ROOM).cte("names", recursive=True)
    following = select(func.min(t.task.c.task_set)).where(*HAS_ROOM, t.task.c.task_set > names.c.name)
    names = names.union_all(select(following.scalar_subquery()).where(names.c.name.is_not(None)))
    return select(names.c.name).where(names.c.name.is_not(None))


SETS_WITH_ROOM = sets_with_room()
SHOWN = (
    select(t.completion)
    .join(t.task_completion, t.task_completion.c.completion_id == t.completion.c.id)
    .where(t.task_completion.c.task_id == bindparam("task"))
)
NUM_GIVEN = select(func.count()).select_from(t.assignment).where(t.assignment.c.labeler_id == bindparam("labeler"))


def cohort_of(connection: Connection, labeler_id: str) -> Cohort:
    """Return a labeler's cohort; ValueError for an unknown one."""
    cohort = connection.execute(LABELER, {"labeler": labeler_id}).scalar()
    if cohort is None:
        raise ValueError(f"labeler {labeler_id!r} is not in the store")
    return cohort


def begin(connection: Connection, labeler_id: str, now: datetime) -> Cohort:
    """End leases that ran out and return the labeler's cohort; nobody else claims for them in this transaction."""
    lock_labeler(connection, labeler_id)
    wait_for_tasks(connection, t.assignment.c.labeler_id == labeler_id, LEASED)
    expire(connection, now)
    return cohort_of(connection, labeler_id)


def taken(connection: Connection, query: Select[Any], names: dict[str, Any], state: str | None) -> RowMapping | None:
    """Return the first task of a query, locked; None when it finds none.

    One that others lock in this moment is passed over; where there is no other, it is waited for a little. The
    labeler's assignment of it must be in this state still (None: run out, or never given): it was read before the lock.
    """
    locking = query.with_for_update(of=t.task, skip_locked=True)
    for _ in range(NUM_TRIES):
        row = connection.execute(locking, names).mappings().first()
        if row is not None:
            known = row["assignment_id"]
            now_in = known and connection.execute(STATE, {"assignment": known}).scalar()
            if now_in == (state or (known and "expired")):
                return row
        elif connection.execute(query, names).first() is None:
            return None
        time.sleep(TRY_SECONDS)
    return None


def claim(
    connection: Connection, task_set: str, labeler_id: str, now: datetime, lease_seconds: float
) -> Assignment | None:
    """Return the labeler's unfinished lease of this set, renewed, else a new one on the next open task, else None."""
    check_time(now)
    if lease_seconds <= 0:
        raise ValueError(f"lease_seconds {lease_seconds} must be positive")
    cohort = begin(connection, labeler_id, now)
    until = now + timedelta(seconds=lease_seconds)
    names = {"labeler": labeler_id, "task_set": task_set}
    row = taken(connection, HELD, names, "leased") or taken(connection, OPEN, names | {"cohort": cohort}, None)
    if row is None:
        check_task_sets(connection, [task_set])
        return None
    return lease(connection, row, labeler_id, now, until)


def choose(connection: Connection, labeler_id: str, now: datetime, kind: TaskKind | None) -> RowMapping | None:
    """Return the task of any set that the labeler should do next, to be leased in this transaction; None without one.

    What they hold comes first, the one they last worked on; then calibration when it is its turn; then by priority, the
    set opened first.
    """
    check_time(now)
    cohort = begin(connection, labeler_id, now)
    labeler = {"labeler": labeler_id}
    held = HELD_ANYWHERE if kind is None else HELD_ANYWHERE.where(t.task.c.kind == kind)
    row = taken(connection, held, labeler, "leased")
    if row is not None:
        return row
    names = labeler | {"cohort": cohort}
    for task_set in sets_in_turn(connection, names, kind):
        row = taken(connection, OPEN, names | {"task_set": task_set}, None)
        if row is not None:  # None: others took all of it while this transaction went on
            return row
    return None


def sets_in_turn(connection: Connection, names: dict[str, Any], kind: TaskKind | None) -> Iterator[str]:
    """Yield the sets with a task for this labeler, best first; calibration when it is its turn, and then first."""
    found: list[tuple[int, datetime, str]] = []
    for task_set in connection.execute(SETS_WITH_ROOM).scalars().all():
        best = connection.execute(BEST, names | {"task_set": task_set}).first()
        if best is not None and kind in (None, best.kind):
            found.append((-best.priority, best.opened_at, task_set))
    in_order = [task_set for _, _, task_set in sorted(found)]
    num_given = connection.execute(NUM_GIVEN, {"labeler": names["labeler"]}).scalar_one()
    if CALIBRATION in in_order and is_for_calibration(names["labeler"], num_given):
        yield CALIBRATION
    yield from (task_set for task_set in in_order if task_set != CALIBRATION)


def is_for_calibration(labeler_id: str, num_given: int) -> bool:
    """Whether the next task of a labeler who was given so many is for calibration: one of ten, which one by a hash."""
    ten, place = divmod(num_given, TASKS_PER_CALIBRATION)
    digest = hashlib.sha256("\x1f".join((CALIBRATION, labeler_id, str(ten))).encode()).hexdigest()
    return int(digest, 16) % TASKS_PER_CALIBRATION == place


def lease(connection: Connection, row: RowMapping, labeler_id: str, now: datetime, until: datetime) -> Assignment:
    """Lease a task that was found for the labeler, or prolong the lease that they have of it."""
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
    if row["assignment_state"] != "leased":
        count(connection, task_id, held=1)
    return Assignment(assignment_id, task_id, row["task_kind"], prompt, tuple(completions[c] for c in shown), until)
