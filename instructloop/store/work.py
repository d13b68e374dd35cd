"""One labeler's part in one task: what they see of it, and how their answer is stored whole; nobody sees another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from instructloop.core.records import Completion, Prompt
from instructloop.store import claims, drafts, instructing, labelling, pace
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.catalogue import completion_of, prompt_of
from instructloop.store.drafts import Draft
from instructloop.store.forms import check_answered
from instructloop.store.instructing import Instruction
from instructloop.store.reading import IS_SUPERSEDED, ratings_by_submission
from instructloop.store.rows import Assignment, ComparisonForm, TaskKind

PART = (
    select(
        t.assignment.c.id.label("assignment_id"),
        t.assignment.c.task_id,
        t.assignment.c.labeler_id,
        t.assignment.c.state,
        t.assignment.c.shown,
        t.assignment.c.expires_at,
        t.assignment.c.skip_reason,
        t.task.c.kind.label("task_kind"),
        t.task.c.task_set,
        t.prompt,
        p.prompt_language.c.language,
    )
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
    .outerjoin(p.prompt_language, p.prompt_language.c.prompt_id == t.prompt.c.id)
    .where(t.assignment.c.id == bindparam("assignment"))
)
LATEST = (
    select(
        t.submission.c.id,
        t.submission.c.submitted_at,
        t.submission.c.revision_of,
        t.demonstration.c.text,
        t.comparison.c.tiers,
    )
    .outerjoin(t.demonstration, t.demonstration.c.submission_id == t.submission.c.id)
    .outerjoin(t.comparison, t.comparison.c.submission_id == t.submission.c.id)
    .where(t.submission.c.assignment_id == bindparam("assignment"), ~IS_SUPERSEDED)
)
SENT_BEFORE = select(t.submission.c.revision_of).where(
    t.submission.c.assignment_id == bindparam("assignment"), t.submission.c.idempotency_key == bindparam("key")
)


class NotTheirs(ValueError):
    """An assignment that does not exist or is somebody else's: the two look the same from outside."""

    def __init__(self, assignment_id: str) -> None:
        super().__init__(f"assignment {assignment_id!r} is not one of yours")


class Finished(ValueError):
    """A draft on what was submitted or skipped: a tab left open, whose save must not bring the draft back."""

    def __init__(self, assignment_id: str, state: str) -> None:
        self.state = state
        super().__init__(f"assignment {assignment_id} is {state}; nothing more is drafted on it")


@dataclass(frozen=True, slots=True)
class Submitted:
    """The latest revision of what a labeler answered: a demonstration's text or a whole comparison."""

    id: str
    submitted_at: datetime
    is_revision: bool
    answer: str | ComparisonForm


@dataclass(frozen=True, slots=True)
class SavedDraft:
    """What an autosave did; `expires_at` is the renewed lease's end, None where another has the task by now."""

    rev: int
    saved_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeskItem:
    """One assignment as its labeler sees it, in whatever state; `completions` stand in the order shown to them."""

    id: str
    task_id: str
    kind: TaskKind
    task_set: str
    prompt: Prompt
    language: str | None  # of the prompt, where somebody said it: a BCP 47 tag
    completions: tuple[Completion, ...]
    state: str  # leased, expired, submitted, surplus, skipped
    expires_at: datetime | None  # None: it is not leased
    skip_reason: str | None
    instruction: Instruction
    draft: Draft | None
    submission: Submitted | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a labeler sends: a demonstration's text or a whole comparison, under which instruction, in how much time."""

    content: str | ComparisonForm
    key: str  # of idempotency: the same one with the same content is the same submission
    active_seconds: float  # page visible and touched within the last minute
    wall_seconds: float
    instruction: int  # version of the text that they were shown


def next_assignment(connection: Connection, labeler_id: str, now: datetime, kind: TaskKind | None) -> Assignment | None:
    """Lease the labeler what they should do next; None when nothing is left for them."""
    row = claims.choose(connection, labeler_id, now, kind)
    if row is None:
        return None
    until = now + timedelta(seconds=pace.lease_seconds(connection, labeler_id, row["task_kind"]))
    return claims.lease(connection, row, labeler_id, now, until)


def part(connection: Connection, assignment_id: str, labeler_id: str) -> RowMapping:
    """Return an assignment with its task and prompt; NotTheirs unless it is this labeler's."""
    row = connection.execute(PART, {"assignment": assignment_id}).mappings().first()
    if row is None or row["labeler_id"] != labeler_id:
        raise NotTheirs(assignment_id)
    return row


def item(connection: Connection, row: RowMapping) -> DeskItem:
    """Return all that the labeler sees of a part."""
    shown = connection.execute(claims.SHOWN, {"task": row["task_id"]}).mappings()
    completions = {completion.id: completion for completion in map(completion_of, shown)}
    return DeskItem(
        id=row["assignment_id"],
        task_id=row["task_id"],
        kind=row["task_kind"],
        task_set=row["task_set"],
        prompt=prompt_of(row),
        language=row["language"],
        completions=tuple(completions[key] for key in row["shown"]),
        state=row["state"],
        expires_at=row["expires_at"],
        skip_reason=row["skip_reason"],
        instruction=instructing.newest(connection, instructing.kind_for(row["task_kind"], row["task_set"])),
        draft=drafts.draft_of(connection, row["assignment_id"]),
        submission=latest(connection, row["assignment_id"]),
    )


def latest(connection: Connection, assignment_id: str) -> Submitted | None:
    """Return the latest revision of the answer on an assignment, None before there is one."""
    row = connection.execute(LATEST, {"assignment": assignment_id}).first()
    if row is None:
        return None
    answer = row.text if row.tiers is None else comparison_form(connection, row.id, row.tiers)
    return Submitted(row.id, row.submitted_at, row.revision_of is not None, answer)


def comparison_form(connection: Connection, submission_id: str, tiers: list[list[str]]) -> ComparisonForm:
    """Return a stored comparison as the form that it was sent as."""
    rows = ratings_by_submission(connection, [submission_id])[submission_id]
    return ComparisonForm(
        ratings={row["completion_id"]: row["rating"] for row in rows},
        flags={row["completion_id"]: dict(row["flags"]) for row in rows},
        tiers=tuple(tuple(tier) for tier in tiers),
        notes={row["completion_id"]: row["note"] for row in rows if row["note"]},
    )


def prolong(connection: Connection, row: RowMapping, now: datetime) -> datetime | None:
    """Renew the lease of a part and return its end, as `labelling.heartbeat` does."""
    seconds = pace.lease_seconds(connection, row["labeler_id"], row["task_kind"])
    return labelling.heartbeat(connection, row["assignment_id"], now, seconds)


def save_draft(connection: Connection, row: RowMapping, rev: int, body: Mapping[str, Any], now: datetime) -> SavedDraft:
    """Keep a draft and renew the lease; also when the lease is lost, for a late answer is kept too (end None)."""
    until = prolong(connection, row, now)  # it locks the assignment, and two tabs of one person take turns
    state = connection.execute(select(t.assignment.c.state).where(t.assignment.c.id == row["assignment_id"])).scalar()
    if state not in ("leased", "expired"):
        raise Finished(row["assignment_id"], str(state))
    draft = drafts.save(connection, row["assignment_id"], rev, body, now)
    return SavedDraft(draft.rev, draft.saved_at, until)


def submit(connection: Connection, row: RowMapping, answer: Answer, now: datetime, *, is_revision: bool = False) -> str:
    """Store an answer with its circumstance in place of the draft; return the submission's id, of a resent one too."""
    assignment_id = row["assignment_id"]
    if isinstance(answer.content, ComparisonForm):
        check_answered(answer.content, row["shown"])
    revision_of = None
    if is_revision:
        labelling.find(connection, assignment_id, now)  # locks it, so that nobody else revises in between
        revision_of = revised(connection, assignment_id, answer.key)
    sent = labelling.Sent(now, answer.key, answer.active_seconds, revision_of)
    submission_id, is_new = labelling.submit(connection, assignment_id, answer.content, sent)
    if is_new:
        keep_circumstance(connection, row, submission_id, answer, now)
        drafts.discard(connection, assignment_id)
    return submission_id


def revised(connection: Connection, assignment_id: str, key: str) -> str:
    """Return which submission a revision corrects: the latest, or the one that the same key corrected before."""
    sent = connection.execute(SENT_BEFORE, {"assignment": assignment_id, "key": key}).first()
    if sent is not None and sent.revision_of is not None:
        return sent.revision_of
    submission = latest(connection, assignment_id)
    if submission is None:
        raise ValueError(f"assignment {assignment_id} has no submission to revise")
    return submission.id


def keep_circumstance(
    connection: Connection, row: RowMapping, submission_id: str, answer: Answer, now: datetime
) -> None:
    """Store in how much time and under which instruction a submission was made."""
    for field, seconds in (("active_seconds", answer.active_seconds), ("wall_seconds", answer.wall_seconds)):
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"{field} {seconds} must be a number that is not negative")
    kind = instructing.kind_for(row["task_kind"], row["task_set"])
    instructing.require(connection, kind, answer.instruction, now)
    values = {
        "submission_id": submission_id,
        "instruction_kind": kind,
        "instruction_version": answer.instruction,
        "active_seconds": answer.active_seconds,
        "wall_seconds": answer.wall_seconds,
    }
    connection.execute(insert(p.circumstance), values)
