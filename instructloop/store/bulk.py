"""Reading and writing many rows by id with few statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Table, func, insert, select

ROWS_PER_QUERY = 500
Values = dict[str, Any]
Item = TypeVar("Item")


ADDING = 7_305_216_411
"""Number of the advisory lock of PostgreSQL that who adds by id holds until the end of its transaction."""


def take_turns(connection: Connection) -> None:
    """Let one transaction at a time look which ids are new and add those; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ADDING)))


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in parts small enough for one statement's parameters."""
    for start in range(0, len(items), ROWS_PER_QUERY):
        yield items[start : start + ROWS_PER_QUERY]


def rows_by_id(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, RowMapping]:
    """Return the rows of a table that have one of these ids."""
    found: dict[str, RowMapping] = {}
    for part in chunks(sorted(set(ids))):
        query = select(table).where(table.c.id.in_(part))
        found.update((str(row["id"]), row) for row in connection.execute(query).mappings())
    return found


def insert_all(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows with one statement executed many times."""
    if rows:
        connection.execute(insert(table), list(rows))


def require(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, RowMapping]:
    """Return the rows of these ids; ValueError naming one that is not there."""
    wanted = set(ids)
    found = rows_by_id(connection, table, wanted)
    missing = sorted(wanted - found.keys())
    if missing:
        raise ValueError(f"{table.name} {missing[0]} is not in the store ({len(missing)} unknown)")
    return found
