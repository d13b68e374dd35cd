"""The record of who changed what: numbers, ids and hashes, never text of prompts, names or secrets; append-only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from instructloop.files import canonical_json
from instructloop.store import tables_people as p
from instructloop.store.engine import Database

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The web app sets it for each request; `record` takes it from here unless it is given."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change; `actor` is the account that made it, None for the command line."""

    id: int
    at: datetime
    actor: str | None
    action: str  # noun.verb
    object_id: str
    before_hash: str | None
    after_hash: str | None
    details: Mapping[str, Any]
    request_id: str | None


def record(
    connection: Connection,
    *,
    at: datetime,
    actor: str | None,
    action: str,
    object_id: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] = {},
    request: str | None = None,
) -> None:
    """Add an event in the caller's transaction: it is there exactly if the change is.

    Of `before` and `after` only the SHA-256 is kept; leave names and emails out, the hash of one can be guessed.
    """
    values = {
        "at": at,
        "actor": actor,
        "action": action,
        "object_id": object_id,
        "before_hash": digest(before),
        "after_hash": digest(after),
        "details": dict(details),
        "request_id": request or request_id.get(),
    }
    connection.execute(insert(p.audit_event), values)


def digest(value: Mapping[str, Any] | None) -> str | None:
    """Return the SHA-256 of what something was, None for what was not there."""
    return None if value is None else hashlib.sha256(canonical_json(dict(value)).encode()).hexdigest()


class Audit:
    """Reads the record and adds to it; there is no way to change it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self, action: str, object_id: str, *, actor: str | None, details: Mapping[str, Any], now: datetime
    ) -> None:
        """Add an event of something that was done outside the store, of which nothing else is kept there."""
        with self._database.write.begin() as connection:
            record(connection, at=now, actor=actor, action=action, object_id=object_id, details=details)

    def events(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        actor: str | None = None,
        object_id: str | None = None,
        action: str | None = None,
    ) -> list[AuditEvent]:
        """Return the newest events first, those with an id below `before`: the page after the one that ended there.

        `action` "invite" finds all of "invite.create", "invite.revoke" and so on.
        """
        event = p.audit_event
        query = select(event).order_by(event.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(event.c.id < before)
        if actor is not None:
            query = query.where(event.c.actor == actor)
        if object_id is not None:
            query = query.where(event.c.object_id == object_id)
        if action is not None:
            is_kind = event.c.action.startswith(f"{action}.", autoescape=True)
            query = query.where((event.c.action == action) | is_kind)
        with self._database.read.connect() as connection:
            return [AuditEvent(**row) for row in connection.execute(query).mappings()]
