"""Comparisons read back without their texts: who ranked what how, for figures over many of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from instructloop.core.records import Cohort, Ranking
from instructloop.store import tables as t
from instructloop.store.bulk import ROWS_PER_QUERY, chunks
from instructloop.store.reading import IS_SUPERSEDED

COUNTED = ("submitted",)
WORKED = ("submitted", "surplus")
"""A candidate's late submission tells as much of the candidate as one in time."""

SUBMITTED = (
    t.submission.join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .join(t.labeler, t.labeler.c.id == t.assignment.c.labeler_id)
)
COLUMNS: tuple[ColumnElement[Any], ...] = (
    t.task.c.prompt_id,
    t.assignment.c.labeler_id,
    t.comparison.c.tiers,
    t.submission.c.id,
    t.assignment.c.task_id,
    t.assignment.c.shown,
    t.submission.c.submitted_at,
)


@dataclass(frozen=True, slots=True)
class JudgedRanking(Ranking):
    """A ranking with where and when it was made; `shown` is empty where nobody knows the order of presentation."""

    submission_id: str
    task_id: str
    shown: tuple[str, ...]
    submitted_at: datetime


def latest(states: Collection[str] = COUNTED) -> Select[Any]:
    """Return the query for the latest revisions of comparisons in some states, to be narrowed further."""
    return (
        select(*COLUMNS)
        .select_from(SUBMITTED.join(t.comparison, t.comparison.c.submission_id == t.submission.c.id))
        .where(t.assignment.c.state.in_(sorted(states)), ~IS_SUPERSEDED)
        .order_by(t.submission.c.submitted_at, t.submission.c.id)
    )


def judged(
    connection: Connection,
    *,
    task_sets: Collection[str] | None = None,
    cohorts: Collection[Cohort] | Collection[str] | None = None,
    labeler: str | None = None,
    states: Collection[str] = COUNTED,
) -> list[JudgedRanking]:
    """Return the latest comparisons, oldest first; None selects all."""
    query = latest(states)
    if task_sets is not None:
        query = query.where(t.task.c.task_set.in_(sorted(task_sets)))
    if cohorts is not None:
        query = query.where(t.task.c.cohort.in_(sorted(cohorts)))
    if labeler is not None:
        query = query.where(t.assignment.c.labeler_id == labeler)
    return rankings(connection, query)


def rankings(connection: Connection, query: Select[Any]) -> list[JudgedRanking]:
    """Return what a query over `latest` finds."""
    rows = connection.execute(query.execution_options(yield_per=ROWS_PER_QUERY))
    return [
        JudgedRanking(
            prompt_id=row.prompt_id,
            labeler=row.labeler_id,
            tiers=tuple(tuple(tier) for tier in row.tiers),
            submission_id=row.id,
            task_id=row.task_id,
            shown=tuple(row.shown),
            submitted_at=row.submitted_at,
        )
        for row in rows
    ]


def flags_of(connection: Connection, submission_ids: Iterable[str]) -> dict[str, dict[str, dict[str, bool | None]]]:
    """Return submission -> completion -> flags."""
    found: dict[str, dict[str, dict[str, bool | None]]] = {}
    for part in chunks(sorted(set(submission_ids))):
        query = select(t.rating.c.submission_id, t.rating.c.completion_id, t.rating.c.flags)
        for row in connection.execute(query.where(t.rating.c.submission_id.in_(part))):
            found.setdefault(row.submission_id, {})[row.completion_id] = dict(row.flags)
    return found
