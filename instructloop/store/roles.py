"""Who may do what to whom, and that an owner remains; inside one transaction."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import Connection, RowMapping, select

from instructloop.store import tables_people as p
from instructloop.store.checks import check_word
from instructloop.store.people import NotAllowed, Role

COHORTS_OF: dict[Role, tuple[str | None, ...]] = {
    "owner": (None,),
    "researcher": ("researcher",),
    "labeler": ("screening", "train", "heldout"),
    "auditor": (None,),
}
MAY_HANDLE: dict[Role, tuple[Role, ...]] = {
    "owner": get_args(Role),
    "researcher": ("labeler",),
    "labeler": (),
    "auditor": (),
}
"""Whom people of a role may invite, pause and let in again."""


def check_cohort(role: Role, cohort: str | None) -> None:
    """Refuse a cohort that the role does not work in."""
    check_word("role", role, p.ROLES)
    if cohort not in COHORTS_OF[role]:
        allowed = ", ".join(name or "none" for name in COHORTS_OF[role])
        raise ValueError(f"cohort {cohort!r} of role {role} must be one of {allowed}")


def locked(connection: Connection, account_id: str) -> RowMapping:
    """Return an account's row, locked where the database locks rows; ValueError for one that is unknown or removed."""
    query = select(p.account).where(p.account.c.id == account_id).with_for_update(key_share=True)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise ValueError(f"account {account_id!r} is not in the store")
    if row["state"] == "removed":
        raise ValueError(f"account {account_id} was removed")
    return row


def role_of(connection: Connection, by: str | None) -> Role:
    """Return the role that somebody acts in: the operator at the command line (None) may do all that an owner may."""
    if by is None:
        return "owner"
    query = select(p.account.c.role).where(p.account.c.id == by, p.account.c.state == "active")
    role: Role | None = connection.execute(query).scalar()
    if role is None:
        raise NotAllowed("only people with an active account may do this")
    return role


def check_may_handle(connection: Connection, by: str | None, role: Role) -> None:
    """Refuse to act on an invitation or an account of a role without the right to."""
    if role not in MAY_HANDLE[own := role_of(connection, by)]:
        raise NotAllowed(f"role {own} may not do this to role {role}")


def check_is_owner(connection: Connection, by: str | None) -> None:
    """Refuse what only an owner may do."""
    if (own := role_of(connection, by)) != "owner":
        raise NotAllowed(f"role {own} may not do this; an owner may")


def lock_owners(connection: Connection) -> None:
    """Make all that could take the last owner away wait for each other; taken before any account's own lock."""
    query = select(p.account.c.id).where(p.account.c.role == "owner").order_by(p.account.c.id)
    connection.execute(query.with_for_update(key_share=True)).all()


def check_owner_remains(connection: Connection, without: RowMapping) -> None:
    """Refuse to take away the last active owner; `lock_owners` comes first."""
    others = select(p.account.c.id).where(
        p.account.c.role == "owner", p.account.c.state == "active", p.account.c.id != without["id"]
    )
    is_owner = without["role"] == "owner" and without["state"] == "active"
    if is_owner and connection.execute(others.limit(1)).first() is None:
        raise ValueError("the last owner cannot be paused, removed or given another role; make another owner first")
