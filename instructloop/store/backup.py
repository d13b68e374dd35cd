"""A copy of an SQLite store while people work on it, and putting one back; PostgreSQL has pg_dump for that."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError

from instructloop.files import naming, sync
from instructloop.store.engine import current_revision, database_url, known_revisions
from instructloop.store.filesystems import check_is_local


def backup(store: str | Path, file: Path) -> int:
    """Write a copy of the store as of now to a new file, whole or not at all, and return its size in bytes.

    VACUUM INTO copies one moment and hinders nobody; the copy has no write-ahead log beside it and no free pages.
    """
    place = sqlite_file(store, f"pg_dump --format=custom --file={file} DATABASE")
    if not place.is_file():
        raise ValueError(f"store {place} does not exist")
    if file.exists():
        raise ValueError(f"{file} exists; a backup does not overwrite")
    with beside(file) as part:
        with closing(sqlite3.connect(place, timeout=30)) as source:
            source.execute("VACUUM INTO ?", [str(part)])
        check_store(part)
        sync(part)
        part.replace(file)
    sync(file.parent)
    return file.stat().st_size


def restore(file: Path, store: str | Path) -> Path | None:
    """Put a backup in the store's place and return where the old store is kept, None where there was none.

    ValueError for a file that is no whole store of this or an earlier version, and while anybody has the store open.
    """
    place = sqlite_file(store, f"pg_restore --clean --if-exists --dbname=DATABASE {file}")
    check_is_local(place.absolute().parent)
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    check_store(file)
    kept = place.with_name(f"{place.name}.before-restore") if place.exists() else None
    if kept is not None and kept.exists():
        raise ValueError(f"{kept} is there from an earlier restore; move it away first")
    with beside(place) as part:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
            source.execute("VACUUM INTO ?", [str(part)])
        sync(part)
        if kept is not None:
            settle(place)
            os.link(place, kept)  # at every moment one of the two is in the store's place
        part.replace(place)
    sync(place.parent)
    return kept


def sqlite_file(store: str | Path, instead: str) -> Path:
    """Return the file of an SQLite store; ValueError that names PostgreSQL's own program for another."""
    url = database_url(store)
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"the store is on PostgreSQL, which has its own program for this: {instead}")
    return Path(str(url.database))


@contextmanager
def beside(file: Path) -> Generator[Path]:
    """Yield a place for a part in the same folder, which is gone at the end if it was not moved."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with naming(file):
            part.unlink(missing_ok=True)
            yield part
    except sqlite3.OperationalError as error:
        raise OSError(None, f"cannot be copied ({error})", str(file)) from error
    finally:
        for name in (part, part.with_name(f"{part.name}-journal")):
            with suppress(OSError):
                name.unlink()


def check_store(file: Path) -> None:
    """Refuse a file that SQLite finds broken, or that is no store, or one of a newer version."""
    engine = create_engine(f"sqlite:///file:{file.absolute()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
            if found != "ok" or connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise ValueError(f"{file} is damaged: {found}")
            if current_revision(connection) not in known_revisions():
                raise ValueError(f"{file} is no store of this or an earlier version of instructloop")
    except DatabaseError as error:
        raise ValueError(f"{file} is not an SQLite database ({error.orig})") from error
    finally:
        engine.dispose()


def settle(place: Path) -> None:
    """Write the store's log into its file, which only works while nobody else has it open."""
    with closing(sqlite3.connect(place, timeout=1)) as connection:
        try:
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        except sqlite3.OperationalError as error:
            raise ValueError(f"store {place} is in use ({error}): stop what has it open, the app above all") from error
        if mode != "delete":
            raise ValueError(f"store {place} is in use: stop what has it open, the app above all")
