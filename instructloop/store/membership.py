"""Accounts inside one transaction: signed up, read, and their role, state, profile and consent changed."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from instructloop.core.records import Cohort
from instructloop.store import audit, invites
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.catalogue import add_labeler
from instructloop.store.checks import check_text, check_time, check_word
from instructloop.store.language import is_language
from instructloop.store.people import Account, AccountState, Consent, Invite, Role
from instructloop.store.roles import (
    check_cohort,
    check_is_owner,
    check_may_handle,
    check_owner_remains,
    lock_owners,
    locked,
)
from instructloop.store.rows import Labeler
from instructloop.store.secret import random_id
from instructloop.store.sessions import close_sessions
from instructloop.store.settings import setting

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
MAX_NAME, MAX_TOPICS, MAX_LANGUAGES, MAX_PREFERENCES = 200, 4000, 50, 20_000
CONSENT = "consent"
FIRST_CONSENT = Path(__file__).parent / "consent.md"
SIMULATED = "simulated"
"""An invitation with this note is for a simulated labeler: nobody shall take its judgements for a person's."""
ACCOUNTS = select(*(column for column in p.account.c if column.name != "password_hash"), t.labeler.c.cohort).outerjoin(
    t.labeler, t.labeler.c.id == p.account.c.labeler_id
)


def account_of(row: RowMapping) -> Account:
    """Return the account in a row of `ACCOUNTS`."""
    values: dict[str, Any] = {**row, "languages": tuple(row["languages"])}
    return Account(**values)


def find(connection: Connection, **where: str) -> Account | None:
    """Return the one account with these values, None where there is none."""
    query = ACCOUNTS.where(*(p.account.c[name] == value for name, value in where.items()))
    row = connection.execute(query).mappings().first()
    return None if row is None else account_of(row)


def require(connection: Connection, account_id: str) -> Account:
    """Return an account; ValueError for an unknown id."""
    account = find(connection, id=account_id)
    if account is None:
        raise ValueError(f"account {account_id!r} is not in the store")
    return account


def password_hash(connection: Connection, account_id: str) -> str | None:
    """Return the hash of an account's password; None for an unknown or removed one."""
    return connection.execute(select(p.account.c.password_hash).where(p.account.c.id == account_id)).scalar()


def list_all(connection: Connection) -> list[Account]:
    """Return all accounts, removed ones too, oldest first."""
    query = ACCOUNTS.order_by(p.account.c.created_at, p.account.c.id)
    return [account_of(row) for row in connection.execute(query).mappings()]


def normal_email(email: str) -> str:
    """Return an email as it is stored and looked up: trimmed, lower case, composed."""
    return unicodedata.normalize("NFC", email.strip()).lower()


def check_name(name: str) -> None:
    """Refuse a name that is blank, too long or holds characters that cannot be seen or turn the line around."""
    check_text("name", name)
    if len(name) > MAX_NAME:
        raise ValueError(f"name is longer than {MAX_NAME} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name.strip()):
        raise ValueError("name holds a control character")
    if any("\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069" for character in name):
        raise ValueError("name holds a character that changes the direction of what follows")


def sign_up(connection: Connection, token: str, name: str, email: str, password_hash: str, *, now: datetime) -> Account:
    """Use an invitation up and insert its account, for labelers and researchers with a labeler of random id."""
    check_time(now)
    check_name(name)
    check_text("email", email)
    check_text("password hash", password_hash)
    if not EMAIL.fullmatch(normal_email(email)):
        raise ValueError("email must look like name@example.org")
    lock_first(connection, token, now)
    invite = invites.find(connection, token, now, lock=True)
    if invite is None:
        raise ValueError("this invitation is not valid: it was used, was withdrawn or has run out; ask for a new one")
    account_id = random_id("account")
    origin = SIMULATED if invite.note == SIMULATED else "person"
    labeler_id = None if invite.cohort is None else new_labeler(connection, invite.cohort, origin, now)
    values: dict[str, Any] = {
        "id": account_id,
        "role": invite.role,
        "state": "active",
        "labeler_id": labeler_id,
        "email": normal_email(email),
        "name": name.strip(),
        "password_hash": password_hash,
        "languages": [],
        "topics": "",
        "preferences": {},
        "created_at": now,
    }
    try:
        connection.execute(insert(p.account), values)
    except IntegrityError as error:  # nothing else of this row can collide; the transaction is rolled back
        raise ValueError("there is an account with this email already; sign in instead") from error
    connection.execute(update(p.invite).where(p.invite.c.id == invite.id).values(used_at=now, used_by=account_id))
    what = {"role": invite.role, "cohort": invite.cohort}
    details = what | {"invite": invite.id, "labeler": labeler_id}
    audit.record(
        connection, at=now, actor=account_id, action="account.create", object_id=account_id, after=what, details=details
    )
    return require(connection, account_id)


def lock_first(connection: Connection, token: str, now: datetime) -> None:
    """Where the token is a first owner's, make it wait for every other of that sort."""
    invite: Invite | None = invites.find(connection, token, now)
    if invite is not None and invite.created_by is None and invite.role == "owner":
        invites.lock_first_owner(connection)


def new_labeler(connection: Connection, cohort: Cohort, origin: str, now: datetime) -> str:
    """Insert the labeler of an account and return its id, which says nothing about the person."""
    labeler_id = random_id("labeler", 6)
    add_labeler(connection, Labeler(labeler_id, cohort, origin), now)
    return labeler_id


def set_role(
    connection: Connection, account_id: str, role: Role, *, by: str | None, now: datetime, cohort: Cohort | None = None
) -> Account:
    """Give an account another role and end its sessions and open invitations.

    The cohort of a labeler that is there already stays: it is that of the judgements made. One who never labeled
    needs a cohort to begin with, a researcher's is always "researcher".
    """
    check_time(now)
    check_word("role", role, p.ROLES)
    lock_owners(connection)
    row = locked(connection, account_id)
    check_is_owner(connection, by)
    if row["role"] == role:
        return require(connection, account_id)
    check_owner_remains(connection, row)
    labeler_id = row["labeler_id"]
    if labeler_id is None and role in ("labeler", "researcher"):
        wanted: Cohort | None = "researcher" if role == "researcher" else cohort
        check_cohort(role, wanted)
        assert wanted is not None
        labeler_id = new_labeler(connection, wanted, "person", now)
    change(connection, row, {"role": role, "labeler_id": labeler_id}, "account.role", by=by, now=now)
    return require(connection, account_id)


def set_state(
    connection: Connection, account_id: str, state: AccountState, *, by: str | None, now: datetime
) -> Account:
    """Pause an account, which ends its sessions and open invitations, or let it work again."""
    check_time(now)
    check_word("state", state, ("active", "paused"))
    lock_owners(connection)
    row = locked(connection, account_id)
    check_may_handle(connection, by, row["role"])
    if row["state"] != state:
        if state == "paused":
            check_owner_remains(connection, row)
        change(connection, row, {"state": state}, "account.state", by=by, now=now)
    return require(connection, account_id)


def change(
    connection: Connection, row: RowMapping, values: Mapping[str, Any], action: str, *, by: str | None, now: datetime
) -> None:
    """Update an account's rights, record it, and end what was begun under the old ones."""
    connection.execute(update(p.account).where(p.account.c.id == row["id"]).values(values))
    before = {name: row[name] for name in values}
    details = {name: [before[name], value] for name, value in values.items() if before[name] != value}
    audit.record(
        connection, at=now, actor=by, action=action, object_id=row["id"], before=before, after=values, details=details
    )
    close_sessions(connection, row["id"])
    connection.execute(delete(p.password_link).where(p.password_link.c.account_id == row["id"]))
    connection.execute(invites.revoked(now).where(p.invite.c.created_by == row["id"]))


def set_password(
    connection: Connection, account_id: str, password_hash: str, *, now: datetime, end_sessions: bool
) -> None:
    """Store another hash of the password; of the same password, hashed anew, it ends no session and is no event."""
    check_time(now)
    check_text("password hash", password_hash)
    row = locked(connection, account_id)
    connection.execute(update(p.account).where(p.account.c.id == row["id"]).values(password_hash=password_hash))
    if end_sessions:
        open_links = (p.password_link.c.account_id == account_id) & p.password_link.c.used_at.is_(None)
        connection.execute(delete(p.password_link).where(open_links))
        close_sessions(connection, account_id)
        audit.record(connection, at=now, actor=account_id, action="account.password", object_id=account_id)


def set_profile(
    connection: Connection, account_id: str, languages: Sequence[str], topics: str, preferences: Mapping[str, Any]
) -> None:
    """Store what somebody says of themself."""
    unfit = [language for language in languages if not is_language(language)]
    if unfit or len(languages) > MAX_LANGUAGES:
        raise ValueError(f"languages must be at most {MAX_LANGUAGES} tags like en or pt-BR")
    if len(topics) > MAX_TOPICS:
        raise ValueError(f"topics are longer than {MAX_TOPICS} characters")
    if topics.strip():
        check_text("topics", topics)
    if len(json.dumps(dict(preferences), allow_nan=False)) > MAX_PREFERENCES:
        raise ValueError(f"preferences are larger than {MAX_PREFERENCES} characters of JSON")
    row = locked(connection, account_id)
    values = {"languages": list(dict.fromkeys(languages)), "topics": topics.strip(), "preferences": dict(preferences)}
    connection.execute(update(p.account).where(p.account.c.id == row["id"]).values(values))


def consent_text(connection: Connection) -> Consent:
    """Return the newest text of consent."""
    value = setting(connection, CONSENT)
    return Consent(**value) if value else Consent(1, FIRST_CONSENT.read_text(encoding="utf-8"))


def set_consent(connection: Connection, markdown: str, *, by: str | None, now: datetime) -> int:
    """Store a new version of the text, which everybody is asked to agree to again, and return its number."""
    check_time(now)
    check_text("consent", markdown)
    check_is_owner(connection, by)
    version = consent_text(connection).version + 1
    value = {"version": version, "markdown": markdown}
    changed = update(p.setting).where(p.setting.c.name == CONSENT).values(value=value)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(p.setting), {"name": CONSENT, "value": value})
    audit.record(
        connection,
        at=now,
        actor=by,
        action="consent.write",
        object_id=CONSENT,
        after=value,
        details={"version": version},
    )
    return version


def agree(connection: Connection, account_id: str, version: int, *, now: datetime) -> None:
    """Store that somebody agreed to the newest text of consent; twice is once."""
    check_time(now)
    newest = consent_text(connection).version
    if version != newest:
        raise ValueError(f"consent: version {version} is not the newest one, {newest}; read it again")
    locked(connection, account_id)
    if agreed_version(connection, account_id) != version:
        values = {"account_id": account_id, "version": version, "agreed_at": now}
        connection.execute(insert(p.consent), values)


def consent_is_due(connection: Connection, account_id: str) -> bool:
    """Return whether somebody has not agreed to the newest text of consent."""
    newest = setting(connection, CONSENT, {"version": 1})["version"]
    return newest > agreed_version(connection, account_id)


def agreed_version(connection: Connection, account_id: str) -> int:
    """Return the newest version of consent that somebody agreed to, 0 for none."""
    query = select(func.max(p.consent.c.version)).where(p.consent.c.account_id == account_id)
    return connection.execute(query).scalar() or 0
