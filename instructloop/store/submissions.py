"""Submissions as they were given, revisions and surplus ones too, one by one from a cursor; for exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, select

from instructloop.core.records import Completion
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.bulk import ROWS_PER_QUERY
from instructloop.store.catalogue import prompt_of
from instructloop.store.export_rows import SubmissionRow
from instructloop.store.reading import (
    COLUMNS,
    IS_SUPERSEDED,
    SUBMISSIONS,
    completions_by_task,
    ratings_by_submission,
)
from instructloop.store.rows import Tiers

GIVEN: tuple[ColumnElement[Any], ...] = (
    *COLUMNS,
    t.task.c.kind,
    t.task.c.cohort.label("task_cohort"),
    t.assignment.c.state,
    t.submission.c.revision_of,
    t.submission.c.submitted_at,
    t.submission.c.seconds,
    p.circumstance.c.active_seconds,
    p.circumstance.c.wall_seconds,
    p.circumstance.c.instruction_kind,
    p.circumstance.c.instruction_version,
    t.demonstration.c.text,
    t.comparison.c.tiers,
    (~IS_SUPERSEDED).label("is_latest"),
)


def submissions(connection: Connection, task_sets: Sequence[str], cohorts: Sequence[str]) -> Iterator[SubmissionRow]:
    """Yield every submission of these sets by labelers who are, or were then, of these cohorts alone, sorted by id."""
    key = t.submission.c.id
    query = (
        select(*GIVEN)
        .select_from(
            SUBMISSIONS.outerjoin(t.demonstration, t.demonstration.c.submission_id == key)
            .outerjoin(t.comparison, t.comparison.c.submission_id == key)
            .outerjoin(p.circumstance, p.circumstance.c.submission_id == key)
        )
        .where(t.task.c.task_set.in_(task_sets), t.labeler.c.cohort.in_(cohorts), t.task.c.cohort.in_(cohorts))
        .order_by(key)
        .execution_options(yield_per=ROWS_PER_QUERY)
    )
    for part in connection.execute(query).mappings().partitions():
        compared = [row for row in part if row["tiers"] is not None]
        completions = completions_by_task(connection, [row["task_id"] for row in compared])
        ratings = ratings_by_submission(connection, [row["id"] for row in compared])
        for row in part:
            yield submission_of(row, completions.get(row["task_id"], ()), ratings.get(row["id"], ()))


def submission_of(row: RowMapping, completions: Sequence[Completion], ratings: Sequence[RowMapping]) -> SubmissionRow:
    """Return the submission in a row, with the rows of its ratings."""
    return SubmissionRow(
        id=row["id"],
        kind=row["kind"],
        state=row["state"],
        is_latest=bool(row["is_latest"]),
        revision_of=row["revision_of"],
        task_id=row["task_id"],
        task_set=row["task_set"],
        task_cohort=row["task_cohort"],
        labeler=row["labeler_id"],
        cohort=row["cohort"],
        origin=row["origin"],
        submitted_at=row["submitted_at"],
        seconds=row["seconds"],
        active_seconds=row["active_seconds"],
        wall_seconds=row["wall_seconds"],
        instruction_kind=row["instruction_kind"],
        instruction_version=row["instruction_version"],
        prompt=prompt_of(row, "prompt_"),
        text=row["text"],
        completions=tuple(completions),
        shown=tuple(row["shown"]),
        tiers=None if row["tiers"] is None else tuple(tuple(tier) for tier in row["tiers"]),
        ratings={one["completion_id"]: one["rating"] for one in ratings},
        flags={one["completion_id"]: dict(one["flags"]) for one in ratings},
        notes={one["completion_id"]: one["note"] for one in ratings if one["note"]},
    )


def adjudicated(connection: Connection) -> dict[str, Tiers]:
    """Return submission -> a researcher's newest order of its task, for the tasks that have one."""
    query = (
        select(t.submission.c.id, p.adjudication.c.tiers)
        .join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
        .join(p.adjudication, p.adjudication.c.task_id == t.assignment.c.task_id)
        .order_by(p.adjudication.c.adjudicated_at, p.adjudication.c.id)
    )
    return {row.id: tuple(tuple(tier) for tier in row.tiers) for row in connection.execute(query)}
