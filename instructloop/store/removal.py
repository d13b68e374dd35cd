"""What is taken away with a person, step by step: one list, counted by the dry run and carried out by the removal."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, delete, func, select, text, update

from instructloop.store import invites
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.leases import count, wait_for_tasks
from instructloop.store.sessions import guess_key

TAKES_SLOT = ("leased", "submitted")


@dataclass(frozen=True, slots=True)
class Step:
    """Rows of one table that go, or where `values` are given, that change."""

    what: str
    table: Table
    where: ColumnElement[bool]
    values: Mapping[str, Any] | None = None

    def count(self, connection: Connection) -> int:
        """Return how many rows it would touch."""
        return connection.execute(select(func.count()).select_from(self.table).where(self.where)).scalar_one()

    def do(self, connection: Connection) -> int:
        """Touch them and return how many they were."""
        if self.values is None:
            return connection.execute(delete(self.table).where(self.where)).rowcount
        return connection.execute(update(self.table).where(self.where).values(self.values)).rowcount


def pseudonymise_steps(account: RowMapping, now: datetime | None) -> list[Step]:
    """Return what makes a person nameless: their judgements stay, under the random id of their labeler."""
    own = p.invite.c
    mine = select(t.assignment.c.id).where(t.assignment.c.labeler_id == account["labeler_id"])
    is_leased = (t.assignment.c.labeler_id == account["labeler_id"]) & (t.assignment.c.state == "leased")
    key = guess_key("account", account["email"] or "")
    blank: dict[str, Any] = {
        "email": None,
        "name": None,
        "password_hash": None,
        "languages": [],
        "topics": "",
        "preferences": {},
    }
    gone = blank | {"state": "removed", "removed_at": now}
    return [
        Step("sessions", p.session, p.session.c.account_id == account["id"]),
        Step("links for a new password", p.password_link, p.password_link.c.account_id == account["id"]),
        Step("drafts", p.draft, p.draft.c.assignment_id.in_(mine)),
        Step("leases", t.assignment, is_leased, {"state": "expired", "expires_at": None}),
        Step("open invitations", p.invite, (own.created_by == account["id"]) & invites.IS_UNUSED, {"revoked_at": now}),
        Step("notes of invitations", p.invite, (own.used_by == account["id"]) & (own.note != ""), {"note": ""}),
        Step("failed sign-ins", p.login_failure, p.login_failure.c.key == key),
        Step("accounts", p.account, (p.account.c.id == account["id"]) & (p.account.c.state != "removed"), gone),
    ]


def purge_steps(account: RowMapping) -> list[Step]:
    """Return what takes a person's judgements away too, those that name others first.

    What they decided as a researcher about others' work (grades, gold, adjudications, decisions) stays.
    """
    labeler_id = account["labeler_id"]
    mine = t.assignment.c.labeler_id == labeler_id
    assignments = select(t.assignment.c.id).where(mine)
    is_sent = t.submission.c.assignment_id.in_(assignments)
    sent = select(t.submission.c.id).where(is_sent)
    unused = select(t.prompt.c.id).where(is_own(labeler_id) & ~is_used(labeler_id))
    parts = (
        ("grades of their answers", p.grade),
        ("circumstances", p.circumstance),
        ("ratings", t.rating),
        ("comparisons", t.comparison),
        ("demonstrations", t.demonstration),
    )
    return [
        *(Step(what, table, table.c.submission_id.in_(sent)) for what, table in parts),
        Step("submissions", t.submission, is_sent),
        Step("assignments", t.assignment, mine),
        Step("decisions about them", p.decision, p.decision.c.labeler_id == labeler_id),
        Step("annotations", p.annotation, p.annotation.c.labeler_id == labeler_id),
        Step("written prompts", p.written_prompt, p.written_prompt.c.labeler_id == labeler_id),
        Step(
            "languages of prompts that nobody worked on", p.prompt_language, p.prompt_language.c.prompt_id.in_(unused)
        ),
        Step("prompts that nobody worked on", t.prompt, t.prompt.c.id.in_(unused)),
        Step("consents", p.consent, p.consent.c.account_id == account["id"]),
        Step("links to the labeler", p.account, p.account.c.labeler_id == labeler_id, {"labeler_id": None}),
        Step("labelers", t.labeler, t.labeler.c.id == labeler_id),
    ]


def is_own(labeler_id: str | None) -> ColumnElement[bool]:
    """Whether a prompt was written by this labeler."""
    return (t.prompt.c.source == "labeler") & (t.prompt.c.user_key == labeler_id)


def is_used(labeler_id: str | None) -> ColumnElement[bool]:
    """Whether a prompt has tasks or completions, or annotations of others: then it is part of others' work."""
    uses: Sequence[tuple[Table, ColumnElement[bool] | None]] = (
        (t.task, None),
        (t.completion, None),
        (p.annotation, p.annotation.c.labeler_id != labeler_id),
        (p.written_prompt, p.written_prompt.c.labeler_id != labeler_id),
    )
    found = [
        select(table.c.prompt_id)
        .where(table.c.prompt_id == t.prompt.c.id, *(() if other is None else (other,)))
        .exists()
        for table, other in uses
    ]
    return found[0] | found[1] | found[2] | found[3]


def give_slots_back(connection: Connection, labeler_id: str | None, states: Sequence[str]) -> None:
    """Take a labeler's assignments in these states off the counters of their tasks, whose rows are locked first."""
    mine = (t.assignment.c.labeler_id == labeler_id) & t.assignment.c.state.in_(states)
    wait_for_tasks(connection, mine)
    for task_id, state in connection.execute(select(t.assignment.c.task_id, t.assignment.c.state).where(mine)).all():
        count(
            connection,
            task_id,
            held=-1 if state in TAKES_SLOT else 0,
            submitted=-1 if state == "submitted" else 0,
            skipped=-1 if state == "skipped" else 0,
        )


@contextmanager
def deletable(connection: Connection, tables: Sequence[Table]) -> Generator[None]:
    """Let rows of append-only tables be deleted inside, in this transaction alone; if it fails, nothing has changed."""
    names = [table.name for table in tables if table in (*t.APPEND_ONLY, *p.PEOPLE_APPEND_ONLY)]
    if connection.dialect.name == "postgresql":
        # Before any row is locked: who is about to submit is let through first, and nobody begins meanwhile.
        connection.execute(text("LOCK TABLE task, assignment IN EXCLUSIVE MODE"))
        connection.execute(text(f"LOCK TABLE {', '.join(sorted(names))} IN SHARE ROW EXCLUSIVE MODE"))
        switch = "ALTER TABLE {name} {what} TRIGGER {name}_no_delete"
        off = [switch.format(name=name, what="DISABLE") for name in names]
        on = [switch.format(name=name, what="ENABLE") for name in names]
    else:
        query = text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = :name")
        on = [str(connection.execute(query, {"name": f"{name}_no_delete"}).scalar_one()) for name in names]
        off = [f"DROP TRIGGER {name}_no_delete" for name in names]
    for statement in off:
        connection.exec_driver_sql(statement)
    yield
    for statement in on:
        connection.exec_driver_sql(statement)
