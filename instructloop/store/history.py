"""What a labeler has answered, page by page, newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from instructloop.core.records import Prompt
from instructloop.store import tables as t
from instructloop.store.catalogue import prompt_of
from instructloop.store.pace import IS_FIRST, THEIR_FIRST
from instructloop.store.rows import TaskKind

PLACE = (t.submission.c.submitted_at, t.submission.c.assignment_id)
NEWEST_FIRST = (
    THEIR_FIRST.add_columns(t.prompt)
    .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
    .order_by(*(column.desc() for column in PLACE))
    .limit(bindparam("limit"))
)
FIRST_OF = (
    select(*PLACE)
    .join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .where(
        t.submission.c.assignment_id == bindparam("assignment"),
        t.assignment.c.labeler_id == bindparam("labeler"),
        IS_FIRST,
    )
)


@dataclass(frozen=True, slots=True)
class DoneItem:
    """One task that a labeler has answered, for their history; the answer itself is on the assignment."""

    assignment_id: str
    kind: TaskKind
    task_set: str
    state: str  # submitted, or surplus: it came late and another had taken the place
    prompt: Prompt
    submitted_at: datetime  # for the first time
    num_revisions: int
    active_seconds: float | None  # of the first submission; None where nobody measured it


def history(connection: Connection, labeler_id: str, limit: int, before: str | None) -> list[DoneItem]:
    """Return what a labeler has answered, newest first: from the top, or what follows on the assignment `before`."""
    if limit < 1:
        raise ValueError(f"limit {limit} must be at least 1")
    query, names = NEWEST_FIRST, {"labeler": labeler_id, "limit": limit}
    if before is not None:
        place = connection.execute(FIRST_OF, {"labeler": labeler_id, "assignment": before}).first()
        if place is None:
            raise ValueError(f"before: assignment {before!r} is not in your history")
        at, assignment_id = PLACE
        is_same_time = at == place.submitted_at
        query = query.where((at < place.submitted_at) | (is_same_time & (assignment_id < place.assignment_id)))
    rows = connection.execute(query, names).mappings().all()
    revisions = num_revisions(connection, [row["assignment_id"] for row in rows])
    return [done_item(row, revisions[row["assignment_id"]]) for row in rows]


def done_item(row: RowMapping, num_revisions: int) -> DoneItem:
    """Return one line of the history."""
    return DoneItem(
        assignment_id=row["assignment_id"],
        kind=row["task_kind"],
        task_set=row["task_set"],
        state=row["state"],
        prompt=prompt_of(row),
        submitted_at=row["submitted_at"],
        num_revisions=num_revisions,
        active_seconds=row["active_seconds"],
    )


def num_revisions(connection: Connection, assignment_ids: Sequence[str]) -> Counter[str]:
    """Return how often the answer on each assignment was corrected."""
    query = (
        select(t.submission.c.assignment_id, func.count())
        .where(t.submission.c.assignment_id.in_(assignment_ids), t.submission.c.revision_of.is_not(None))
        .group_by(t.submission.c.assignment_id)
    )
    return Counter({row[0]: row[1] for row in connection.execute(query)})
