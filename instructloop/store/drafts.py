"""What a labeler has not submitted yet: kept by each autosave, gone when it becomes a submission."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from instructloop.store import tables_people as p

DRAFT = select(p.draft.c.rev, p.draft.c.body, p.draft.c.saved_at).where(
    p.draft.c.assignment_id == bindparam("assignment")
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What was typed and clicked so far, as the page gave it; each save has a higher rev."""

    rev: int
    body: Mapping[str, Any]
    saved_at: datetime


class StaleDraft(ValueError):
    """A save that another tab, or a later save, has overtaken; `rev` is the one in the store."""

    def __init__(self, rev: int) -> None:
        self.rev = rev
        super().__init__(f"draft: a newer one is saved, with rev {rev}")


def draft_of(connection: Connection, assignment_id: str) -> Draft | None:
    """Return the draft on an assignment, None without one."""
    row = connection.execute(DRAFT, {"assignment": assignment_id}).first()
    return None if row is None else Draft(row.rev, row.body, row.saved_at)


def save(connection: Connection, assignment_id: str, rev: int, body: Mapping[str, Any], now: datetime) -> Draft:
    """Keep a draft in place of the one before and return it; the same one again, resent, is kept as it was.

    The assignment is locked by the caller. StaleDraft for a rev that is not above the stored one.
    """
    check_body(body)
    if rev < 1:
        raise ValueError(f"draft: rev {rev} must be at least 1")
    stored = draft_of(connection, assignment_id)
    if stored is None:
        values = {"assignment_id": assignment_id, "rev": rev, "body": dict(body), "saved_at": now}
        connection.execute(insert(p.draft), values)
        return Draft(rev, body, now)
    if rev == stored.rev and dict(body) == stored.body:
        return stored
    if rev <= stored.rev:
        raise StaleDraft(stored.rev)
    change = update(p.draft).where(p.draft.c.assignment_id == assignment_id)
    connection.execute(change.values(rev=rev, body=dict(body), saved_at=now))
    return Draft(rev, body, now)


def check_body(body: Mapping[str, Any]) -> None:
    """Refuse what no JSON column of PostgreSQL takes: NUL, lone surrogates, infinite numbers."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"draft: body is not JSON that can be kept: {error}") from error
    if "\\u0000" in text.replace("\\\\", ""):  # a backslash that was typed is two
        raise ValueError("draft: body holds a NUL character")


def discard(connection: Connection, assignment_id: str) -> None:
    """Delete the draft on an assignment: it has become a submission."""
    connection.execute(delete(p.draft).where(p.draft.c.assignment_id == assignment_id))
