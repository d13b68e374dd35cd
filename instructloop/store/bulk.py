"""Reading and writing many rows by id with few statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Table, insert, select

ROWS_PER_QUERY = 500
Values = dict[str, Any]
Item = TypeVar("Item")


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
