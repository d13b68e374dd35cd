"""Removing a person: without their judgements, or with them; the one place that deletes submissions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, RowMapping, func, select

from instructloop.store import audit
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.checks import check_time
from instructloop.store.engine import Database
from instructloop.store.people import NotAllowed
from instructloop.store.removal import (
    Step,
    deletable,
    give_slots_back,
    is_own,
    pseudonymise_steps,
    purge_steps,
)
from instructloop.store.roles import check_is_owner, check_owner_remains, lock_owners

Way = Literal["pseudonymise", "purge"]
KEPT = "prompts that others worked on, kept"


@dataclass(frozen=True, slots=True)
class DryRun:
    """How many rows each way to remove somebody would touch, by what they are."""

    pseudonymise: dict[str, int]
    purge: dict[str, int]

    def rows(self) -> list[tuple[str, int, int]]:
        """Return (what, rows touched by pseudonymise, by purge), one line for each that has any."""
        both = [(what, self.pseudonymise.get(what, 0), number) for what, number in self.purge.items()]
        return [row for row in both if row[1] or row[2]]


class Deletion:
    """Removes people; files that were frozen or exported before keep what they have.

    Raises NotAllowed unless `by` is an owner (None: the operator) or, for their own name, the person; ValueError for
    the last owner, and for somebody who was removed already.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def dry_run(self, account_id: str) -> DryRun:
        """Return what both ways would touch, from the very list that they work through; nothing changes."""
        with self._database.read.connect() as connection:
            account = account_row(connection, account_id)
            first = {step.what: step.count(connection) for step in pseudonymise_steps(account, None)}
            then = {step.what: step.count(connection) for step in purge_steps(account)}
            kept = num_prompts(connection, account["labeler_id"]) - then["prompts that nobody worked on"]
            return DryRun(first, first | then | {KEPT: kept})

    def pseudonymise(self, account_id: str, by: str | None, now: datetime) -> dict[str, int]:
        """Take name, email, password, profile, sessions and drafts away; judgements stay under a random id."""
        with self._database.write.begin() as connection:
            account = removable(connection, account_id, by, now, way="pseudonymise")
            give_slots_back(connection, account["labeler_id"], ["leased"])
            done = carried_out(connection, pseudonymise_steps(account, now))
            record(connection, account_id, "pseudonymise", done, by, now)
        forget(self._database)
        return done

    def purge(self, account_id: str, by: str | None, now: datetime) -> dict[str, int]:
        """Take the person and all that they wrote and judged away; their slots are open to others again.

        Other people's rows stay as they are, also on prompts that this person wrote.
        """
        with self._database.write.begin() as connection:
            account = removable(connection, account_id, by, now, way="purge")
            steps = purge_steps(account)
            with deletable(connection, list({step.table: None for step in steps if step.values is None})):
                give_slots_back(connection, account["labeler_id"], ["leased", "submitted", "skipped"])
                done = carried_out(connection, [*pseudonymise_steps(account, now), *steps])
            done[KEPT] = num_prompts(connection, account["labeler_id"])
            record(connection, account_id, "purge", done, by, now)
        forget(self._database)
        return done


def account_row(connection: Connection, account_id: str) -> RowMapping:
    """Return an account, removed or not; ValueError for an unknown one."""
    query = select(p.account).where(p.account.c.id == account_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise ValueError(f"account {account_id!r} is not in the store")
    return row


def removable(connection: Connection, account_id: str, by: str | None, now: datetime, *, way: Way) -> RowMapping:
    """Return the account, locked; ValueError or NotAllowed where it may not be removed in this way."""
    check_time(now)
    lock_owners(connection)
    connection.execute(select(p.account.c.id).where(p.account.c.id == account_id).with_for_update()).all()
    account = account_row(connection, account_id)
    if by != account_id or way == "purge":
        check_is_owner(connection, by)
    elif account["state"] != "active":
        raise NotAllowed("only people with an active account may do this")
    if account["state"] == "removed" and (way == "pseudonymise" or account["labeler_id"] is None):
        raise ValueError(f"account {account_id} was removed already")
    check_owner_remains(connection, account)
    return account


def carried_out(connection: Connection, steps: list[Step]) -> dict[str, int]:
    """Do the steps in their order and return how many rows each touched."""
    return {step.what: step.do(connection) for step in steps}


def num_prompts(connection: Connection, labeler_id: str | None) -> int:
    """Return how many prompts of a labeler there are."""
    query = select(func.count()).select_from(t.prompt).where(is_own(labeler_id))
    return connection.execute(query).scalar_one()


def record(
    connection: Connection, account_id: str, way: Way, done: dict[str, int], by: str | None, now: datetime
) -> None:
    """Write what was removed into the audit log, as numbers."""
    audit.record(connection, at=now, actor=by, action=f"account.{way}", object_id=account_id, details=done)


def forget(database: Database) -> None:
    """Have SQLite write what was deleted out of its write-ahead log; PostgreSQL's autovacuum does that by itself.

    Readers may hold it up: then the next checkpoint does it.
    """
    if database.write.dialect.name == "sqlite":
        raw = database.write.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()
