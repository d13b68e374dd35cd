"""Where the work stands: by task set and cohort against targets, by day, and what nobody would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, case, func, select

from instructloop.store import tables as t
from instructloop.store.catalogue import prompt_of
from instructloop.store.checks import check_time
from instructloop.store.gold import PURPOSE_OF
from instructloop.store.judged import SUBMITTED
from instructloop.store.reports import DayCount, SetAside, StageProgress
from instructloop.store.settings import set_setting, setting
from instructloop.store.tasks import check_task_sets

TARGETS = "research.targets"
IS_ASIDE = (t.task.c.num_skipped >= t.SKIPS_BEFORE_SET_ASIDE) & (t.task.c.num_held < t.task.c.overlap)
KEY = (t.task.c.task_set, t.task.c.cohort)


def targets(connection: Connection) -> dict[str, int]:
    """Return task set -> judgements wanted of each of its cohorts, where a researcher set a number."""
    return dict(setting(connection, TARGETS, {}))


def set_targets(connection: Connection, wanted: Mapping[str, int], *, by: str, now: datetime) -> None:
    """Set the targets; ValueError for a task set that does not exist and for a number below 1."""
    check_task_sets(connection, list(wanted))
    for name, number in wanted.items():
        if isinstance(number, bool) or number < 1:
            raise ValueError(f"target {number!r} of task set {name} must be a number from 1")
    set_setting(connection, TARGETS, dict(wanted), by=by, now=now)


def progress(connection: Connection, now: datetime) -> list[StageProgress]:
    """Return where each task set stands in each cohort, newest set first."""
    check_time(now)
    remaining = case((IS_ASIDE, 0), else_=t.task.c.overlap - t.task.c.num_submitted)
    totals = (
        select(
            *KEY,
            func.min(t.task.c.kind).label("kind"),
            func.min(t.task.c.opened_at).label("opened_at"),
            func.count().label("num_tasks"),
            func.sum(t.task.c.overlap).label("num_asked"),
            func.sum(case((IS_ASIDE, 1), else_=0)).label("num_set_aside"),
            func.sum(remaining).label("num_remaining"),
        )
        .group_by(*KEY)
        .order_by(func.min(t.task.c.opened_at).desc(), *KEY)
    )
    states, last, wanted = by_state(connection, now), last_submitted(connection), targets(connection)
    return [
        StageProgress(
            task_set=row.task_set,
            kind=row.kind,
            cohort=row.cohort,
            purpose=PURPOSE_OF.get(row.task_set, "work"),
            opened_at=row.opened_at,
            num_tasks=row.num_tasks,
            num_wanted=wanted.get(row.task_set, int(row.num_asked)),
            **{f"num_{state}": states[row.task_set, row.cohort, state] for state in STATES},
            num_set_aside=int(row.num_set_aside),
            num_remaining=int(row.num_remaining),
            last_submitted_at=last.get((row.task_set, row.cohort)),
        )
        for row in connection.execute(totals)
    ]


STATES = ("submitted", "leased", "skipped", "surplus")


def by_state(connection: Connection, now: datetime) -> Counter[tuple[str, str, str]]:
    """Return (task set, cohort, state) -> assignments; of leases only those that have not run out."""
    is_live = (t.assignment.c.state != "leased") | (t.assignment.c.expires_at > now)
    query = (
        select(*KEY, t.assignment.c.state, func.count())
        .join_from(t.assignment, t.task, t.task.c.id == t.assignment.c.task_id)
        .where(is_live)
        .group_by(*KEY, t.assignment.c.state)
    )
    return Counter({(row[0], row[1], row[2]): row[3] for row in connection.execute(query)})


def last_submitted(connection: Connection) -> dict[tuple[str, str], datetime]:
    """Return (task set, cohort) -> time of the newest submission."""
    query = select(*KEY, func.max(t.submission.c.submitted_at)).select_from(SUBMITTED).group_by(*KEY)
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def per_day(connection: Connection, since: datetime) -> list[DayCount]:
    """Return accepted judgements by day in UTC, kind and cohort, oldest first; a day without any is left out."""
    check_time(since)
    query = (
        select(t.submission.c.submitted_at, t.task.c.kind, t.task.c.cohort)
        .select_from(SUBMITTED)
        .where(
            t.submission.c.submitted_at >= since,
            t.submission.c.revision_of.is_(None),
            t.assignment.c.state == "submitted",
        )
    )
    counts = Counter((row[0].date(), row[1], row[2]) for row in connection.execute(query))
    return [DayCount(*key, number) for key, number in sorted(counts.items())]


def set_aside(connection: Connection) -> list[SetAside]:
    """Return tasks that so many people skipped that nobody else is asked, most skipped first."""
    query = (
        select(t.task.c.id.label("task_id"), t.task.c.task_set, t.task.c.kind.label("task_kind"), t.prompt)
        .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
        .where(IS_ASIDE)
        .order_by(t.task.c.num_skipped.desc(), t.task.c.id)
    )
    reasons: dict[str, list[str]] = {}
    skipped = (
        select(t.assignment.c.task_id, t.assignment.c.skip_reason)
        .join(t.task, t.task.c.id == t.assignment.c.task_id)
        .where(t.assignment.c.state == "skipped", IS_ASIDE)
        .order_by(t.assignment.c.claimed_at, t.assignment.c.id)
    )
    for row in connection.execute(skipped):
        reasons.setdefault(row.task_id, []).append(row.skip_reason)
    return [
        SetAside(row["task_id"], row["task_set"], row["task_kind"], prompt_of(row), tuple(reasons[row["task_id"]]))
        for row in connection.execute(query).mappings()
    ]
