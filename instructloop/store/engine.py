"""Opening a database: SQLite settings, transactions that write from their start, migrations, errors in plain words."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Database:
    """One database with two ways in: `write` takes SQLite's write lock at BEGIN, `read` sees a snapshot.

    A deferred transaction that reads and then writes fails at once with "database is locked" when another one wrote in
    between, whatever the busy timeout: hence BEGIN IMMEDIATE for all that write.
    """

    write: Engine
    read: Engine

    def close(self) -> None:
        """Close all connections."""
        self.read.dispose()


def open_database(url_or_path: str | Path) -> Database:
    """Return the database, created and migrated to the newest schema; ValueError where it is not ours."""
    url = database_url(url_or_path)
    engine = create_engine(url)
    event.listen(engine, "handle_error", in_plain_words)
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", set_pragmas)
        event.listen(engine, "begin", begin)
    read = engine.execution_options(writes=False)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(write=engine.execution_options(writes=True), read=read)


def database_url(url_or_path: str | Path) -> URL:
    """Return the URL of a path or of a URL given as text; an SQLite file's folder must exist."""
    given = str(url_or_path)
    try:
        url = make_url(given) if "://" in given else URL.create("sqlite", database=given)
    except ArgumentError as error:
        raise ValueError("store: the database URL must read like postgresql://user:password@host/name") from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"store {url.render_as_string()}: the database must be sqlite or postgresql")
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ValueError(
                f"store {given!r}: SQLite needs a file; every connection of a store must see the same rows"
            )
        folder = Path(str(url.database)).absolute().parent
        if not folder.is_dir():
            raise ValueError(f"store {given}: folder {folder} does not exist")
    return url


def set_pragmas(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
    """Set what SQLite needs for many readers and one writer at a time; BEGIN is ours (isolation_level None)."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_SECONDS * 1000}",
        "journal_mode = WAL",
        "synchronous = NORMAL",  # WAL stays consistent; a power cut may lose the last commits, a killed process none
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def begin(connection: Connection) -> None:
    """Open a transaction: with the write lock for the write engine, as a snapshot for the read engine."""
    writes = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def in_plain_words(context: ExceptionContext) -> Exception | None:
    """Return an OSError that names the file for what disk or permissions cause; None leaves the error as it is."""
    error, engine = context.original_exception, context.engine
    if not isinstance(error, sqlite3.Error) or engine is None:
        return None
    file = str(engine.url.database)
    message, name = str(error), getattr(error, "sqlite_errorname", "")
    # Beside the database a WAL needs a shared index: where even that finds no room SQLite speaks of an I/O error.
    if "disk is full" in message or name == "SQLITE_IOERR_SHMSIZE":
        return OSError(errno.ENOSPC, "disk is full; nothing of this change was kept", file)
    if "disk I/O error" in message:
        return OSError(errno.EIO, f"store cannot be read or written ({name})", file)
    if "readonly database" in message or "unable to open" in message:
        return PermissionError(errno.EACCES, f"store cannot be written ({message})", file)
    if "not a database" in message:
        return ValueError(f"store {file} is not an SQLite database")
    if "database is locked" in message:
        text = f"store is held by another writer for more than {BUSY_SECONDS} seconds"
        return TimeoutError(errno.ETIMEDOUT, text, file)
    return None


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision, in one transaction; a database of others is left alone."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(writes=False).connect() as connection:
        current = current_revision(connection)
        if current == script.get_current_head():
            return
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise ValueError(
                f"store {engine.url.database} has schema {current}, written by a newer version of instructloop"
            )
    with migrating(engine) as connection:  # another process may have migrated meanwhile: then this finds nothing to do
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
    """
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        if isinstance(raw, sqlite3.Connection):
            raw.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                if is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise ValueError(f"store {engine.url.database}: a row names another that is not there")
        finally:
            if isinstance(raw, sqlite3.Connection):
                raw.execute("PRAGMA foreign_keys = ON")
