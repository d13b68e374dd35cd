"""Invitations inside one transaction: made, revoked, found by their token, used once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Update, insert, select, update

from instructloop.core.records import Cohort
from instructloop.store import audit
from instructloop.store import tables_people as p
from instructloop.store.checks import check_time
from instructloop.store.people import Invite, Role
from instructloop.store.roles import check_cohort, check_may_handle
from instructloop.store.secret import new_token, random_id, token_hash

DAYS = 14
MAX_NOTE = 1000
IS_UNUSED = p.invite.c.used_at.is_(None) & p.invite.c.revoked_at.is_(None)
COLUMNS = [column for column in p.invite.c if column.name != "token_hash"]


def invite_of(row: RowMapping | Mapping[str, Any]) -> Invite:
    """Return the invitation in a row."""
    return Invite(**{column.name: row[column.name] for column in COLUMNS})


def create(
    connection: Connection,
    role: Role,
    cohort: Cohort | None,
    note: str,
    *,
    by: str | None,
    now: datetime,
    days: float = DAYS,
) -> tuple[Invite, str]:
    """Insert an invitation and return it with its token, which is shown once."""
    check_time(now)
    check_cohort(role, cohort)
    check_may_handle(connection, by, role)
    if not 0 < days <= 365:
        raise ValueError(f"days {days} of an invitation must be above 0 and at most 365")
    if len(note) > MAX_NOTE or "\x00" in note:
        raise ValueError(f"note of an invitation must be text of at most {MAX_NOTE} characters")
    token = new_token()
    values: dict[str, Any] = {
        "id": random_id("invite"),
        "role": role,
        "cohort": cohort,
        "note": note.strip(),
        "created_by": by,
        "created_at": now,
        "expires_at": now + timedelta(days=days),
        "used_at": None,
        "used_by": None,
        "revoked_at": None,
    }
    connection.execute(insert(p.invite), values | {"token_hash": token_hash(token)})
    what = {"role": role, "cohort": cohort}
    audit.record(connection, at=now, actor=by, action="invite.create", object_id=values["id"], after=what, details=what)
    return invite_of(values), token


def revoked(now: datetime) -> Update:
    """Return the statement that ends unused invitations, to be narrowed."""
    return update(p.invite).where(IS_UNUSED).values(revoked_at=now)


def revoke(connection: Connection, invite_id: str, *, by: str | None, now: datetime) -> None:
    """End an invitation; ended already, nothing changes, one that was used is a ValueError."""
    row = connection.execute(select(*COLUMNS).where(p.invite.c.id == invite_id)).mappings().first()
    if row is None:
        raise ValueError(f"invitation {invite_id!r} is not in the store")
    check_may_handle(connection, by, row["role"])
    if connection.execute(revoked(now).where(p.invite.c.id == invite_id)).rowcount:
        audit.record(connection, at=now, actor=by, action="invite.revoke", object_id=invite_id)
        return
    query = select(p.invite.c.used_at).where(p.invite.c.id == invite_id)
    if connection.execute(query).scalar() is not None:
        raise ValueError(f"invitation {invite_id} was used; pause or remove the account instead")


def find(connection: Connection, token: str, now: datetime, *, lock: bool = False) -> Invite | None:
    """Return the invitation that a token opens now, else None; with `lock` nobody else can use it meanwhile."""
    check_time(now)
    query = select(*COLUMNS).where(p.invite.c.token_hash == token_hash(token), IS_UNUSED, p.invite.c.expires_at > now)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return None if row is None or is_superfluous(connection, row) else invite_of(row)


def is_superfluous(connection: Connection, row: RowMapping) -> bool:
    """Return whether this is the link to the first owner's account and there is an owner by now."""
    return row["created_by"] is None and row["role"] == "owner" and has_owner(connection)


def has_owner(connection: Connection) -> bool:
    """Return whether the store belongs to somebody."""
    query = select(p.account.c.id).where(p.account.c.role == "owner", p.account.c.state != "removed")
    return connection.execute(query.limit(1)).first() is not None


def lock_first_owner(connection: Connection) -> None:
    """Make sign-ups by two different first links wait for each other."""
    query = select(p.invite.c.id).where(p.invite.c.created_by.is_(None), p.invite.c.role == "owner")
    connection.execute(query.order_by(p.invite.c.id).with_for_update()).all()
