"""How a labeler is doing: their pace, the length of their leases that follows from it, how far others agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median

from sqlalchemy import Connection, bindparam, func, select

from instructloop.core.agreement import agreement_by_labeler
from instructloop.core.rankings import Interval
from instructloop.core.records import Ranking
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.checks import check_time
from instructloop.store.reading import IS_SUPERSEDED
from instructloop.store.rows import TaskKind

LEAST_LEASE_SECONDS = 900.0
MEDIANS_PER_LEASE = 3.0
NUM_RECENT = 50
"""A labeler's pace is that of so many of their newest tasks of a kind."""
NUM_DAYS = 14
DAY, WEEK = timedelta(days=1), timedelta(days=7)

# Not "IS NULL": without statistics SQLite would begin with that index and walk every labeler's submissions.
IS_FIRST = func.coalesce(t.submission.c.revision_of, "") == ""
THEIR_FIRST = (  # first submissions of one labeler: a revision is no second judgement
    select(
        t.submission.c.id.label("submission_id"),
        t.submission.c.submitted_at,
        t.assignment.c.id.label("assignment_id"),
        t.assignment.c.state,
        t.task.c.kind.label("task_kind"),
        t.task.c.task_set,
        p.circumstance.c.active_seconds,
    )
    .join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .outerjoin(p.circumstance, p.circumstance.c.submission_id == t.submission.c.id)
    .where(t.assignment.c.labeler_id == bindparam("labeler"), IS_FIRST)
)
RECENT = (
    THEIR_FIRST.where(t.task.c.kind == bindparam("kind"), p.circumstance.c.active_seconds.is_not(None))
    .order_by(t.assignment.c.claimed_at.desc())
    .limit(NUM_RECENT)
)
mine = t.assignment.alias("mine")
ON_SHARED_TASKS = (  # latest accepted comparisons of every task that this labeler compared too
    select(t.assignment.c.labeler_id, t.task.c.prompt_id, t.comparison.c.tiers)
    .select_from(t.submission)
    .join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .join(mine, mine.c.task_id == t.task.c.id)
    .join(t.comparison, t.comparison.c.submission_id == t.submission.c.id)
    .where(
        mine.c.labeler_id == bindparam("labeler"),
        t.assignment.c.state == "submitted",
        ~IS_SUPERSEDED,
    )
    .order_by(t.submission.c.id)
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a labeler has done; a task counts when it was first submitted, and times are active ones."""

    num_submitted: int
    num_last_day: int
    num_last_week: int
    active_seconds_last_day: float
    active_seconds_last_week: float
    median_seconds: dict[TaskKind, float]  # of the newest NUM_RECENT; without kinds that were never timed
    by_day: tuple[tuple[date, int], ...]  # the last NUM_DAYS days in UTC, today last


def lease_seconds(connection: Connection, labeler_id: str, kind: TaskKind) -> float:
    """Return how long a lease of this labeler lasts: three times their median active time, 15 minutes at least."""
    seconds = recent_median(connection, labeler_id, kind)
    return LEAST_LEASE_SECONDS if seconds is None else max(LEAST_LEASE_SECONDS, MEDIANS_PER_LEASE * seconds)


def recent_median(connection: Connection, labeler_id: str, kind: TaskKind) -> float | None:
    """Return the median active time of a labeler's newest tasks of a kind, None before the first."""
    rows = connection.execute(RECENT, {"labeler": labeler_id, "kind": kind}).all()
    return median(row.active_seconds for row in rows) if rows else None


def pace(connection: Connection, labeler_id: str, now: datetime) -> Pace:
    """Return how much a labeler has done up to now, and lately."""
    check_time(now)
    rows = connection.execute(THEIR_FIRST, {"labeler": labeler_id}).all()
    day, week = ([row for row in rows if row.submitted_at > now - span] for span in (DAY, WEEK))
    per_day = Counter(row.submitted_at.astimezone(UTC).date() for row in rows)
    today = now.astimezone(UTC).date()
    medians: dict[TaskKind, float] = {}
    for kind in t.TASK_KINDS:
        if (seconds := recent_median(connection, labeler_id, kind)) is not None:
            medians[kind] = seconds
    return Pace(
        num_submitted=len(rows),
        num_last_day=len(day),
        num_last_week=len(week),
        active_seconds_last_day=sum(row.active_seconds or 0.0 for row in day),
        active_seconds_last_week=sum(row.active_seconds or 0.0 for row in week),
        median_seconds=medians,
        by_day=tuple((one, per_day[one]) for one in (today - DAY * i for i in reversed(range(NUM_DAYS)))),
    )


def agreement(connection: Connection, labeler_id: str) -> Interval | None:
    """Return the share of pairs on which others who did the same task agree, clustered by prompt; None without one.

    Pairs that either side ties do not count (Stiennon et al. 2020, appendix C). Latest revisions, accepted ones only.
    """
    rankings = [
        Ranking(row.prompt_id, row.labeler_id, tuple(tuple(tier) for tier in row.tiers))
        for row in connection.execute(ON_SHARED_TASKS, {"labeler": labeler_id})
    ]
    return agreement_by_labeler(rankings, ties="drop").get(labeler_id)
