"""Sessions and failed sign-ins inside one transaction."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from instructloop.store import tables_people as p
from instructloop.store.checks import check_time
from instructloop.store.secret import new_token, token_hash

IDLE = timedelta(hours=12)
ABSOLUTE = timedelta(days=14)
SEEN = timedelta(minutes=1)
"""A session's last visit is written at most this often: reading a page is no write."""

NUM_FREE = {"account": 5, "address": 20}
"""Failures in a row without a wait: people mistype, and an office shares an address."""
LONGEST_WAIT = {"account": timedelta(minutes=1), "address": timedelta(minutes=15)}
FORGOTTEN = timedelta(days=1)


def open_session(connection: Connection, account_id: str, agent_hash: str, now: datetime) -> tuple[str, str]:
    """Insert a session of an active account and return its token and its CSRF token; sessions that are over go."""
    check_time(now)
    state = connection.execute(select(p.account.c.state).where(p.account.c.id == account_id)).scalar()
    if state != "active":
        raise ValueError(f"account {account_id} is {state or 'not in the store'} and cannot sign in")
    session = p.session.c
    connection.execute(delete(p.session).where((session.expires_at <= now) | (session.last_seen_at <= now - IDLE)))
    token, csrf_token = new_token(), new_token()
    values: dict[str, Any] = {
        "token_hash": token_hash(token),
        "account_id": account_id,
        "csrf_token": csrf_token,
        "agent_hash": agent_hash,
        "created_at": now,
        "last_seen_at": now,
        "expires_at": now + ABSOLUTE,
    }
    connection.execute(insert(p.session), values)
    return token, csrf_token


def find_session(connection: Connection, token: str, agent_hash: str, now: datetime) -> RowMapping | None:
    """Return the row of a session that is not over, in the browser that opened it, else None."""
    check_time(now)
    session = p.session.c
    query = select(p.session).where(
        session.token_hash == token_hash(token),
        session.agent_hash == agent_hash,
        session.expires_at > now,
        session.last_seen_at > now - IDLE,
    )
    return connection.execute(query).mappings().first()


def touch_session(connection: Connection, token: str, now: datetime) -> None:
    """Write that the session was used; a session closed meanwhile stays closed."""
    session = p.session.c
    query = update(p.session).where(session.token_hash == token_hash(token), session.last_seen_at < now)
    connection.execute(query.values(last_seen_at=now))


def close_sessions(connection: Connection, account_id: str) -> int:
    """Delete all sessions of an account and return their number."""
    return connection.execute(delete(p.session).where(p.session.c.account_id == account_id)).rowcount


def guess_key(kind: str, value: str) -> str:
    """Return the key under which guesses are counted: of an "account" by its email, of an "address".

    The email's hash, not the account's id: so guesses at an email that nobody has are slowed down just as much, and
    the wait does not tell whether there is such an account.
    """
    assert kind in LONGEST_WAIT
    return f"{kind}:{hashlib.sha256(value.strip().lower().encode('utf-8', 'surrogatepass')).hexdigest()}"


def wait_after(key: str, num_failed: int) -> timedelta:
    """Return how long after its last failure a key has to wait: 1 s after the first that is not free, then doubling.

    Never more than the longest wait of its kind, else anybody could lock anybody out.
    """
    kind = key.split(":")[0]
    doublings = min(num_failed - NUM_FREE[kind] - 1, 20)
    return timedelta() if doublings < 0 else min(timedelta(seconds=2**doublings), LONGEST_WAIT[kind])


def wait_of(row: RowMapping | None, now: datetime) -> float:
    """Return for how many seconds the key of a row has to wait still."""
    if row is None or row["last_failed_at"] <= now - FORGOTTEN:
        return 0.0
    until = row["last_failed_at"] + wait_after(row["key"], row["num_failed"])
    return max(0.0, (until - now).total_seconds())


def failures(connection: Connection, key: str, now: datetime) -> float:
    """Return for how many seconds this key may not be tried."""
    check_time(now)
    query = select(p.login_failure).where(p.login_failure.c.key == key)
    return wait_of(connection.execute(query).mappings().first(), now)


def record_failure(connection: Connection, key: str, now: datetime) -> None:
    """Count a failed sign-in.

    One during a wait (guesses sent at once) makes the wait longer, up to its longest, but does not start it anew: who
    never stops guessing cannot keep the door shut beyond it.
    """
    check_time(now)
    failure = p.login_failure.c
    connection.execute(delete(p.login_failure).where(failure.last_failed_at <= now - FORGOTTEN))
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    first = {"key": key, "num_failed": 0, "last_failed_at": now}
    connection.execute(dialect.insert(p.login_failure).on_conflict_do_nothing(), first)
    query = select(p.login_failure).where(failure.key == key).with_for_update()
    row = connection.execute(query).mappings().one()
    began = row["last_failed_at"] if wait_of(row, now) > 0 else now
    connection.execute(
        update(p.login_failure).where(failure.key == key).values(num_failed=row["num_failed"] + 1, last_failed_at=began)
    )
