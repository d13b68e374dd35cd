"""Opening a database: SQLite settings, transactions that write from their start, migrations, errors in plain words."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from instructloop.store.filesystems import check_is_local
from instructloop.store.plainly import BUSY_SECONDS, in_plain_words

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATING = 7_305_216_410
"""Number of the advisory lock that PostgreSQL gives to one migration at a time."""
POOL = {"pool_size": 10, "max_overflow": 30}  # the app has 40 threads
SESSION = f"-c lock_timeout={BUSY_SECONDS * 1000} -c timezone=utc -c idle_in_transaction_session_timeout=600000"


@dataclass(frozen=True, slots=True)
class Database:
    """One database with two ways in: `write` takes SQLite's write lock at BEGIN, `read` sees a snapshot.

    On SQLite a deferred transaction that reads and then writes fails at once with "database is locked" when another one
    wrote in between, whatever the busy timeout: hence BEGIN IMMEDIATE for all that write. On PostgreSQL `write` is READ
    COMMITTED, so a statement sees what was committed before it, and `read` REPEATABLE READ.
    """

    write: Engine
    read: Engine

    def close(self) -> None:
        """Close all connections."""
        self.read.dispose()


def open_database(url_or_path: str | Path) -> Database:
    """Return the database, created and migrated to the newest schema; ValueError where it is not ours."""
    url = database_url(url_or_path)
    engine = new_engine(url)
    event.listen(engine, "handle_error", in_plain_words)
    how: dict[str, Any] = {"writes": False}
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", set_pragmas)
        event.listen(engine, "begin", begin)
    else:
        how |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    read = engine.execution_options(**how)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(write=engine.execution_options(writes=True), read=read)


def database_url(url_or_path: str | Path) -> URL:
    """Return the URL of a path or of a URL given as text; an SQLite file's folder must exist, on a local file system.

    PostgreSQL is spoken to through psycopg 3, also where the URL says postgres:// as many hosts write it.
    """
    given = str(url_or_path)
    try:
        url = make_url(given) if "://" in given else URL.create("sqlite", database=given)
    except ArgumentError as error:
        raise ValueError("store: the database URL must read like postgresql://user:password@host/name") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ValueError(f"store {url.render_as_string()}: the database must be sqlite or postgresql")
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ValueError(
                f"store {given!r}: SQLite needs a file; every connection of a store must see the same rows"
            )
        folder = Path(str(url.database)).absolute().parent
        if not folder.is_dir():
            raise ValueError(f"store {given}: folder {folder} does not exist")
        check_is_local(folder)
    return url


def new_engine(url: URL) -> Engine:
    """Return the engine of a URL; ValueError where the driver of PostgreSQL is not installed."""
    if url.get_backend_name() == "sqlite":
        return create_engine(url, **POOL)
    settings = {"connect_timeout": 10, "application_name": "instructloop", "options": SESSION}
    ours = {name: value for name, value in settings.items() if name not in url.query}
    try:
        return create_engine(url, **POOL, pool_pre_ping=True, connect_args=ours)
    except ModuleNotFoundError as error:
        raise ValueError("store: for PostgreSQL install psycopg: pip install 'instructloop[postgresql]'") from error


def set_pragmas(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    """Set what SQLite needs for many readers and one writer at a time; BEGIN is ours (isolation_level None)."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = NORMAL",  # WAL stays consistent; a power cut may lose the last commits, a killed process none
        "foreign_keys = ON",
        "secure_delete = ON",  # what is deleted, a person's name say, is overwritten in the file
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin(connection: Connection) -> None:
    """Open a transaction: with the write lock for the write engine, as a snapshot for the read engine."""
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision, in one transaction; a database of others is left alone."""
    from alembic import command

    config = migrations()
    newest, *older = known_revisions()
    with engine.execution_options(writes=False).connect() as connection:
        current = current_revision(connection)
        if current == newest:
            return
        if current is not None and current not in older:
            raise ValueError(
                f"store {engine.url.database} has schema {current}, written by a newer version of instructloop"
            )
    with migrating(engine) as connection:  # another process may have migrated meanwhile: then this finds nothing to do
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def migrations() -> Config:
    """Return where alembic finds the revisions."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def known_revisions() -> list[str]:
    """Return the schema's revisions, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()]


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision, None for an empty database; ValueError for one with foreign tables only."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if tables:
        raise ValueError(
            f"store {connection.engine.url.database} holds other tables ({tables[0]}), not an instructloop store"
        )
    return None


@contextmanager
def migrating(engine: Engine) -> Generator[Connection]:
    """Yield a connection in a write transaction, on SQLite with foreign keys unchecked until the end.

    SQLite changes a table by copying and dropping it, which enforced foreign keys forbid: they are checked last.
    PostgreSQL has no write lock at BEGIN: who migrates at the same time waits here.
    """
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        if isinstance(raw, sqlite3.Connection):
            raw.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                if not is_sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
                yield connection
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise ValueError(f"store {engine.url.database}: a row names another that is not there")
        finally:
            if isinstance(raw, sqlite3.Connection):
                raw.execute("PRAGMA foreign_keys = ON")
