"""Errors of the databases in plain words: what failed, where, and whether anything was kept."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.engine import ExceptionContext

BUSY_SECONDS = 30
"""How long a writer waits for another one."""


def in_plain_words(context: ExceptionContext) -> Exception | None:
    """Return an OSError or ValueError for what disk, network, rights or a user cause; None leaves it as it is."""
    error, engine = context.original_exception, context.engine
    if isinstance(error, sqlite3.Error):
        return None if engine is None else of_sqlite(error, str(engine.url.database))
    if type(error).__module__.partition(".")[0] == "psycopg":
        where = "PostgreSQL" if engine is None else engine.url.render_as_string(hide_password=True)
        return of_postgresql(str(error), getattr(error, "sqlstate", None), where, is_new=context.connection is None)
    return None


def of_sqlite(error: sqlite3.Error, file: str) -> Exception | None:
    """Return an error that names the file."""
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


def of_postgresql(message: str, sqlstate: str | None, where: str, *, is_new: bool) -> Exception | None:
    """Return an error that names the database, by the SQLSTATE (PostgreSQL manual, appendix A)."""
    state, line = sqlstate or "", " ".join(message.split())
    if state in ("53100", "53200"):
        what = "disk is full" if state == "53100" else "memory is used up"
        return OSError(errno.ENOSPC, f"{what} on the database's machine; nothing of this change was kept", where)
    if state in ("25006", "42501"):
        return PermissionError(errno.EACCES, f"store cannot be written ({line})", where)
    if state in ("40001", "40P01", "55P03", "57014"):
        text = f"store is held by another writer for more than {BUSY_SECONDS} seconds; nothing of this was kept"
        return TimeoutError(errno.ETIMEDOUT, text, where)
    if is_new or state[:2] in ("08", "53") or state in ("57P01", "57P02", "57P03") or "connection" in line.lower():
        return ConnectionError(errno.ECONNREFUSED, f"the database cannot be reached ({line})", where)
    if state[:2] == "22" or "NUL" in line or "\\u0000" in line:
        return ValueError(f"PostgreSQL cannot store this text ({line})")
    return None
