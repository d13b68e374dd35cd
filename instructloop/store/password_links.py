"""Links for a new password, inside one transaction: made for an account, used once."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from instructloop.store import audit, membership
from instructloop.store import tables_people as p
from instructloop.store.checks import check_text, check_time
from instructloop.store.people import Account
from instructloop.store.roles import check_may_handle, locked
from instructloop.store.secret import new_token, token_hash
from instructloop.store.sessions import guess_key

HOURS = 48.0


def create(connection: Connection, account_id: str, *, by: str | None, now: datetime, hours: float) -> str:
    """Insert a link in place of the account's earlier ones and return its token, which is shown once."""
    check_time(now)
    if not 0 < hours <= 24 * 14:
        raise ValueError(f"hours {hours} of a link must be above 0 and at most {24 * 14}")
    row = locked(connection, account_id)
    check_may_handle(connection, by, row["role"])
    if row["state"] != "active":
        raise ValueError(f"account {account_id} is {row['state']}; let it in again first")
    drop(connection, account_id)
    token = new_token()
    times = {"created_at": now, "expires_at": now + timedelta(hours=hours)}
    values = {"token_hash": token_hash(token), "account_id": account_id, "created_by": by}
    connection.execute(insert(p.password_link), values | times)
    audit.record(connection, at=now, actor=by, action="account.password_link", object_id=account_id)
    return token


def find(connection: Connection, token: str, now: datetime) -> Account | None:
    """Return whose link this is; None where it was used, has run out, or the account is not active."""
    check_time(now)
    link = p.password_link.c
    query = select(link.account_id).where(
        link.token_hash == token_hash(token), link.used_at.is_(None), link.expires_at > now
    )
    account_id = connection.execute(query).scalar()
    account = None if account_id is None else membership.find(connection, id=account_id)
    return account if account is not None and account.is_active else None


def use(connection: Connection, token: str, password_hash: str, *, now: datetime) -> Account:
    """Use a link up: the new password is set, all sessions end, failed sign-ins are forgotten."""
    check_text("password hash", password_hash)
    account = find(connection, token, now)
    # The update itself is the claim: of two at once, the second one finds used_at set and touches no row.
    link = p.password_link.c
    mark = update(p.password_link).where(link.token_hash == token_hash(token), link.used_at.is_(None))
    if account is None or connection.execute(mark.values(used_at=now)).rowcount != 1:
        raise ValueError("this link is not valid: it was used, was replaced or has run out; ask for a new one")
    membership.set_password(connection, account.id, password_hash, now=now, end_sessions=True)
    if account.email is not None:
        key = guess_key("account", account.email)
        connection.execute(delete(p.login_failure).where(p.login_failure.c.key == key))
    return account


def drop(connection: Connection, account_id: str) -> None:
    """Delete all links of an account."""
    connection.execute(delete(p.password_link).where(p.password_link.c.account_id == account_id))
