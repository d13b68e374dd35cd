"""The door to people: accounts, invitations, sessions, consent; each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from instructloop.core.records import Cohort
from instructloop.store import invites, membership, password_links, sessions
from instructloop.store import tables_people as p
from instructloop.store.engine import Database
from instructloop.store.people import Account, AccountState, Consent, Invite, Role, Session
from instructloop.store.secret import token_hash


class Accounts:
    """Who may come in, as what, and who is in; passwords come hashed, of tokens only the SHA-256 is stored.

    `by` is the account that acts, None the operator at the command line. NotAllowed where `by` has no right to it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # Invitations

    def first_owner_invite(self, now: datetime) -> str | None:
        """Return the token of the first owner's invitation, in place of an unused one; None if there is an owner."""
        with self._database.write.begin() as connection:
            if invites.has_owner(connection):
                return None
            is_first = p.invite.c.created_by.is_(None) & (p.invite.c.role == "owner")
            connection.execute(invites.revoked(now).where(is_first))
            return invites.create(connection, "owner", None, "first owner", by=None, now=now)[1]

    def invite(
        self,
        role: Role,
        cohort: Cohort | None,
        note: str,
        by: str | None,
        now: datetime,
        days: float = invites.DAYS,
    ) -> tuple[Invite, str]:
        """Make an invitation and return it with its token; owners invite everybody, researchers labelers.

        Cohorts: of a labeler screening, train or heldout; of a researcher "researcher"; of others None.
        """
        with self._database.write.begin() as connection:
            return invites.create(connection, role, cohort, note, by=by, now=now, days=days)

    def invites(self) -> list[Invite]:
        """Return all invitations, newest first."""
        query = select(*invites.COLUMNS).order_by(p.invite.c.created_at.desc(), p.invite.c.id)
        with self._database.read.connect() as connection:
            return [invites.invite_of(row) for row in connection.execute(query).mappings()]

    def revoke_invite(self, invite_id: str, by: str | None, now: datetime) -> None:
        """Withdraw an invitation that was not used."""
        with self._database.write.begin() as connection:
            invites.revoke(connection, invite_id, by=by, now=now)

    def find_invite(self, token: str, now: datetime) -> Invite | None:
        """Return the invitation that this token opens now; None for one unknown, used, withdrawn or run out."""
        with self._database.read.connect() as connection:
            return invites.find(connection, token, now)

    # Accounts

    def sign_up(self, token: str, name: str, email: str, password_hash: str, now: datetime) -> Account:
        """Use an invitation up, once whoever comes at the same time, and return the new account."""
        with self._database.write.begin() as connection:
            return membership.sign_up(connection, token, name, email, password_hash, now=now)

    def account(self, account_id: str) -> Account | None:
        """Return an account, None for an unknown id."""
        with self._database.read.connect() as connection:
            return membership.find(connection, id=account_id)

    def account_by_email(self, email: str) -> Account | None:
        """Return the account with this email, however it is written in capitals; None where there is none."""
        with self._database.read.connect() as connection:
            return membership.find(connection, email=membership.normal_email(email))

    def password_hash(self, account_id: str) -> str | None:
        """Return the hash of an account's password; None for an unknown or removed one."""
        with self._database.read.connect() as connection:
            return membership.password_hash(connection, account_id)

    def accounts(self) -> list[Account]:
        """Return all accounts, removed ones too, oldest first."""
        with self._database.read.connect() as connection:
            return membership.list_all(connection)

    def set_role(
        self, account_id: str, role: Role, by: str | None, now: datetime, cohort: Cohort | None = None
    ) -> Account:
        """Give another role; sessions end. `cohort` is for who becomes a labeler and never was. Not the last owner."""
        with self._database.write.begin() as connection:
            return membership.set_role(connection, account_id, role, by=by, now=now, cohort=cohort)

    def set_state(self, account_id: str, state: AccountState, by: str | None, now: datetime) -> Account:
        """Make an account "paused" (sessions end, nobody signs in) or "active" again; not the last owner."""
        with self._database.write.begin() as connection:
            return membership.set_state(connection, account_id, state, by=by, now=now)

    def set_password(self, account_id: str, password_hash: str, now: datetime, *, end_sessions: bool = True) -> None:
        """Store another password's hash; all sessions end, unless it is the same password hashed anew."""
        with self._database.write.begin() as connection:
            membership.set_password(connection, account_id, password_hash, now=now, end_sessions=end_sessions)

    def password_link(self, account_id: str, by: str | None, now: datetime, hours: float = password_links.HOURS) -> str:
        """Return the token of a link for a new password, in place of an earlier one; `by` may manage that account."""
        with self._database.write.begin() as connection:
            return password_links.create(connection, account_id, by=by, now=now, hours=hours)

    def find_password_link(self, token: str, now: datetime) -> Account | None:
        """Return whose link this is, None for one that is unknown, used, replaced or run out."""
        with self._database.read.connect() as connection:
            return password_links.find(connection, token, now)

    def use_password_link(self, token: str, password_hash: str, now: datetime) -> Account:
        """Set the password by a link, once; all sessions end."""
        with self._database.write.begin() as connection:
            return password_links.use(connection, token, password_hash, now=now)

    def set_profile(
        self, account_id: str, languages: Sequence[str], topics: str, preferences: Mapping[str, Any]
    ) -> None:
        """Store languages (BCP 47), topics that somebody feels able to judge, and preferences of their screen."""
        with self._database.write.begin() as connection:
            membership.set_profile(connection, account_id, languages, topics, preferences)

    # Consent

    def consent_text(self) -> Consent:
        """Return what people agree to."""
        with self._database.read.connect() as connection:
            return membership.consent_text(connection)

    def set_consent(self, markdown: str, by: str | None, now: datetime) -> int:
        """Store a new version of what people agree to, as an owner, and return its number."""
        with self._database.write.begin() as connection:
            return membership.set_consent(connection, markdown, by=by, now=now)

    def agree(self, account_id: str, version: int, now: datetime) -> None:
        """Store that somebody agreed to the newest version; ValueError for an older one."""
        with self._database.write.begin() as connection:
            membership.agree(connection, account_id, version, now=now)

    def agreed_version(self, account_id: str) -> int:
        """Return the newest version that somebody agreed to, 0 for none."""
        with self._database.read.connect() as connection:
            return membership.agreed_version(connection, account_id)

    # Sessions

    def open_session(self, account_id: str, agent_hash: str, now: datetime) -> tuple[str, str]:
        """Return the token for the cookie of a new session, and its CSRF token; the account must be active."""
        with self._database.write.begin() as connection:
            return sessions.open_session(connection, account_id, agent_hash, now)

    def find_session(self, token: str, agent_hash: str, now: datetime) -> Session | None:
        """Return the session of a cookie; None: idle for 12 hours, 14 days old, of another browser, account paused."""
        with self._database.read.connect() as connection:
            row = sessions.find_session(connection, token, agent_hash, now)
            account = None if row is None else membership.find(connection, id=row["account_id"])
            is_due = (
                account is not None and account.role == "labeler" and membership.consent_is_due(connection, account.id)
            )
        if row is None or account is None or not account.is_active:
            return None
        if now - row["last_seen_at"] >= sessions.SEEN:
            with self._database.write.begin() as connection:
                sessions.touch_session(connection, token, now)
        times = (row[name] for name in ("created_at", "last_seen_at", "expires_at"))
        return Session(account, row["csrf_token"], *times, consent_is_due=is_due)

    def close_session(self, token: str) -> None:
        """End one session."""
        with self._database.write.begin() as connection:
            connection.execute(delete(p.session).where(p.session.c.token_hash == token_hash(token)))

    def close_all_sessions(self, account_id: str) -> int:
        """End all sessions of an account and return their number."""
        with self._database.write.begin() as connection:
            return sessions.close_sessions(connection, account_id)

    # Failed sign-ins: keys are made with `sessions.guess_key`

    def failures(self, key: str, now: datetime) -> float:
        """Return for how many seconds nobody may try this key; refuse without looking at the password meanwhile."""
        with self._database.read.connect() as connection:
            return sessions.failures(connection, key, now)

    def record_failure(self, key: str, now: datetime) -> None:
        """Count a failed sign-in against a key."""
        with self._database.write.begin() as connection:
            sessions.record_failure(connection, key, now)

    def clear_failures(self, key: str) -> None:
        """Forget the failures of an account that signed in; those of its address stay, others share it."""
        with self._database.write.begin() as connection:
            connection.execute(delete(p.login_failure).where(p.login_failure.c.key == key))
