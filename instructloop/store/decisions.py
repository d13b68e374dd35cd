"""Decisions on candidates: who there is, who was taken or declined, with the report that was seen (appendix B.1)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, case, func, insert, select, update

from instructloop.core.records import COHORTS, Cohort, content_id
from instructloop.store import gold
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.candidates import SETS, person_of, report
from instructloop.store.checks import check_text, check_time, check_word
from instructloop.store.judged import SUBMITTED, WORKED
from instructloop.store.reading import IS_SUPERSEDED
from instructloop.store.screening_reports import Candidate, Decision


def candidates(connection: Connection) -> list[Candidate]:
    """Return the labelers of cohort "screening" and those decided on, sorted by id."""
    decided: dict[str, Decision] = {}
    for row in connection.execute(in_order_of_time()).mappings():
        decided[row["labeler_id"]] = decision_of(row)
    query = select(t.labeler.c.id, t.labeler.c.cohort).order_by(t.labeler.c.id)
    is_wanted = (t.labeler.c.cohort == "screening") | t.labeler.c.id.in_(select(p.decision.c.labeler_id))
    num_tasks = connection.execute(select(func.count()).where(t.task.c.task_set.in_(SETS))).scalar_one()
    work = work_by_labeler(connection)
    return [
        Candidate(row.id, row.cohort, num_tasks, *work.get(row.id, (0, 0)), decided.get(row.id))
        for row in connection.execute(query.where(is_wanted))
    ]


def work_by_labeler(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return labeler -> (screening tasks submitted, demonstrations of them that nobody has graded)."""
    is_graded = select(p.grade.c.submission_id).where(p.grade.c.submission_id == t.submission.c.id).exists()
    is_waiting = (t.task.c.task_set == gold.SCREENING_WRITING) & ~is_graded
    query = (
        select(t.assignment.c.labeler_id, func.count(), func.sum(case((is_waiting, 1), else_=0)))
        .select_from(SUBMITTED)
        .where(t.task.c.task_set.in_(SETS), t.assignment.c.state.in_(WORKED), ~IS_SUPERSEDED)
        .group_by(t.assignment.c.labeler_id)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(query)}


def decide(
    connection: Connection,
    labeler_id: str,
    is_accepted: bool,
    *,
    cohort: Cohort | None,
    reason: str,
    by: str,
    now: datetime,
) -> Decision:
    """Record a decision with the report that it rests on, and move an accepted candidate into their cohort."""
    check_time(now)
    check_text("reason of the decision", reason)
    if person_of(connection, labeler_id)["cohort"] != "screening":
        raise ValueError(f"labeler {labeler_id} is no candidate: only those of the cohort 'screening' are decided on")
    if is_accepted:
        check_word("cohort", cohort, [name for name in COHORTS if name != "screening"])
    elif cohort is not None:
        raise ValueError(f"cohort {cohort!r}: who is declined goes into none")
    seen = report(connection, labeler_id, None)
    number = len(decisions(connection, labeler_id))
    values = {
        "id": content_id("decision", labeler_id, str(number)),
        "labeler_id": labeler_id,
        "is_accepted": is_accepted,
        "cohort": cohort,
        "reason": reason.strip(),
        "report": asdict(seen) | {"verdicts": seen.verdicts, "is_passed": seen.is_passed},
        "decided_by": by,
        "decided_at": now,
    }
    connection.execute(insert(p.decision), values)
    if is_accepted:
        connection.execute(update(t.labeler).where(t.labeler.c.id == labeler_id).values(cohort=cohort))
    details = {"is_accepted": is_accepted, "cohort": cohort}
    record(connection, at=now, actor=by, action="labeler.decide", object_id=labeler_id, details=details)
    return decisions(connection, labeler_id)[0]


def in_order_of_time() -> Select[Any]:
    """Return the query for all decisions, oldest first."""
    return select(p.decision).order_by(p.decision.c.decided_at, p.decision.c.id)


def decisions(connection: Connection, labeler_id: str) -> list[Decision]:
    """Return the decisions about a labeler, newest first."""
    query = in_order_of_time().where(p.decision.c.labeler_id == labeler_id)
    return [decision_of(row) for row in connection.execute(query).mappings()][::-1]


def decision_of(row: RowMapping) -> Decision:
    """Return the decision in a row."""
    names = ("id", "labeler_id", "is_accepted", "cohort", "reason", "report", "decided_by", "decided_at")
    return Decision(*(row[name] for name in names))
