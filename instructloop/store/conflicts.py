"""Tasks on which labelers disagree, and a researcher's word on them; the judgements stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, insert, select

from instructloop.core.agreement import agreement_by
from instructloop.core.rankings import Interval
from instructloop.core.records import content_id
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.bulk import rows_by_id
from instructloop.store.catalogue import prompt_of
from instructloop.store.checks import check_text, check_time
from instructloop.store.forms import checked_tiers
from instructloop.store.judged import JudgedRanking, latest, rankings
from instructloop.store.reading import completions_by_task, ratings_by_submission
from instructloop.store.reports import Adjudication, Conflict, ConflictDetail, Judgement, Page

SEVERAL = latest().where(t.task.c.num_submitted >= 2)
SAME_TASK = "half"
"""A tie of one side alone is half an agreement: whoever ties is half way to either order."""


def conflicts(connection: Connection, limit: int, offset: int, below: float) -> Page[Conflict]:
    """Return tasks that agree on less than `below` of their pairs: those nobody adjudicated first, worst first."""
    judged = rankings(connection, SEVERAL)
    num_judgements: dict[str, int] = {}
    for one in judged:
        num_judgements[one.task_id] = num_judgements.get(one.task_id, 0) + 1
    decided = {row[0] for row in connection.execute(select(p.adjudication.c.task_id).distinct())}
    found = [(key, value) for key, value in agreement_by_task(judged).items() if value.value < below]
    found.sort(key=lambda one: (one[0] in decided, one[1].value, one[0]))
    shown = found[offset : offset + limit]
    heads = task_heads(connection, [key for key, _ in shown])
    rows = [conflict_of(heads[key], num_judgements[key], value, key in decided) for key, value in shown]
    return Page(tuple(rows), len(found))


def agreement_by_task(judged: Sequence[JudgedRanking]) -> dict[str, Interval]:
    """Return task -> agreement of its judgements; those of another task on the same prompt do not count."""
    return agreement_by(judged, lambda a, b: [a.task_id] if a.task_id == b.task_id else [], ties=SAME_TASK)


def task_heads(connection: Connection, task_ids: Sequence[str]) -> dict[str, RowMapping]:
    """Return task -> its set, cohort and prompt."""
    query = (
        select(t.task.c.id.label("task_id"), t.task.c.task_set, t.task.c.cohort, t.prompt)
        .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
        .where(t.task.c.id.in_(list(task_ids)))
    )
    return {row["task_id"]: row for row in connection.execute(query).mappings()}


def conflict_of(head: RowMapping, num_judgements: int, agreement: Interval, is_adjudicated: bool) -> Conflict:
    """Return a task with how far its judgements agree."""
    return Conflict(
        task_id=head["task_id"],
        task_set=head["task_set"],
        cohort=head["cohort"],
        prompt=prompt_of(head),
        num_judgements=num_judgements,
        agreement=agreement.value,
        num_pairs=agreement.n,
        is_adjudicated=is_adjudicated,
    )


def conflict(connection: Connection, task_id: str) -> ConflictDetail | None:
    """Return all that was judged on a task; None unless at least two people compared its completions."""
    judged = rankings(connection, SEVERAL.where(t.task.c.id == task_id))
    agreement = agreement_by_task(judged).get(task_id)
    if agreement is None:
        return None
    decided = adjudications(connection, task_id)
    ratings = ratings_by_submission(connection, [one.submission_id for one in judged])
    head = task_heads(connection, [task_id])[task_id]
    return ConflictDetail(
        conflict=conflict_of(head, len(judged), agreement, bool(decided)),
        completions=tuple(completions_by_task(connection, [task_id])[task_id]),
        judgements=tuple(judgement_of(one, ratings[one.submission_id]) for one in judged),
        adjudications=tuple(decided),
    )


def judgement_of(one: JudgedRanking, ratings: Sequence[RowMapping]) -> Judgement:
    """Return a judgement with its ratings, flags and notes."""
    return Judgement(
        submission_id=one.submission_id,
        labeler=one.labeler,
        shown=one.shown,
        tiers=one.tiers,
        ratings={row["completion_id"]: row["rating"] for row in ratings},
        flags={row["completion_id"]: dict(row["flags"]) for row in ratings},
        notes={row["completion_id"]: row["note"] for row in ratings if row["note"]},
        submitted_at=one.submitted_at,
    )


def adjudications(connection: Connection, task_id: str) -> list[Adjudication]:
    """Return researchers' words on a task, newest first."""
    query = select(p.adjudication).where(p.adjudication.c.task_id == task_id)
    newest_first = (p.adjudication.c.adjudicated_at.desc(), p.adjudication.c.id)
    return [adjudication_of(row) for row in connection.execute(query.order_by(*newest_first)).mappings()]


def adjudication_of(row: RowMapping) -> Adjudication:
    """Return the adjudication in a row."""
    tiers = tuple(tuple(tier) for tier in row["tiers"])
    return Adjudication(row["id"], row["task_id"], tiers, row["reason"], row["account_id"], row["adjudicated_at"])


def adjudicate(
    connection: Connection, task_id: str, tiers: Sequence[Sequence[str]], reason: str, *, by: str, now: datetime
) -> str:
    """Add a researcher's order of all completions of a task and return its id."""
    check_time(now)
    check_text("reason", reason)
    task = rows_by_id(connection, t.task, [task_id]).get(task_id)
    if task is None or task["kind"] != "compare":
        raise ValueError(f"task {task_id!r} is no comparison in the store")
    shown = [completion.id for completion in completions_by_task(connection, [task_id])[task_id]]
    ordered = [list(tier) for tier in checked_tiers(tiers, shown)]
    number = len(adjudications(connection, task_id))
    adjudication_id = content_id("adjudication", task_id, str(number))
    content = {"tiers": ordered, "reason": reason.strip()}
    values = {"id": adjudication_id, "task_id": task_id, "account_id": by, "adjudicated_at": now}
    connection.execute(insert(p.adjudication), values | content)
    record(connection, at=now, actor=by, action="task.adjudicate", object_id=task_id, after=content)
    return adjudication_id
