"""Opening databases: the rules of the schema, SQLite's settings, errors in plain words."""

import errno
import os
import sqlite3
from types import SimpleNamespace

import pytest
from setuptools import find_packages
from sqlalchemy import create_engine, inspect, text

import instructloop
from instructloop.core.records import Prompt
from instructloop.store import Store, engine
from instructloop.store.tables_people import metadata


def test_the_migrations_lead_to_the_rules_of_the_code(tmp_path):
    migrated_one = engine.open_database(tmp_path / "store.db").read
    created = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(created)
    for name in metadata.tables:
        rules = [
            sorted((rule["name"], rule["sqltext"]) for rule in inspect(one).get_check_constraints(name))
            for one in (migrated_one, created)
        ]
        assert rules[0] == rules[1]
    migrated_one.dispose()
    created.dispose()


def test_opening_again_finds_what_was_stored(tmp_path):
    prompt = Prompt.make("p", source="labeler", user="u")
    with Store.open(tmp_path / "store.db") as store:
        store.add_prompts([prompt])
    with Store.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert store.prompts() == [prompt]


def test_the_migrations_are_in_the_package():
    packages = find_packages(os.path.dirname(os.path.dirname(instructloop.__file__)), include=["instructloop*"])
    assert "instructloop.store.migrations.versions" in packages


def test_writers_take_the_lock_at_begin_and_readers_do_not_wait(tmp_path):
    engine.open_database(tmp_path / "store.db").close()
    database = engine.open_database(tmp_path / "store.db")  # settings of a connection that did not migrate
    with database.write.begin() as writer:
        assert writer.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert writer.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert writer.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
        with database.read.connect() as reader:
            assert reader.execute(text("SELECT count(*) FROM prompt")).scalar() == 0
        other = sqlite3.connect(tmp_path / "store.db", timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    database.close()


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "store.db"
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ValueError, match=r"store\.db has schema 9999, written by a newer version"):
        Store.open(path)


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE recipes (id)")
    connection.close()
    with pytest.raises(ValueError, match=r"other\.db holds other tables \(recipes\)"):
        Store.open(other)
    notes = tmp_path / "notes.txt"
    notes.write_text("buy milk\n" * 500)
    with pytest.raises(ValueError, match=r"notes\.txt is not an SQLite database"):
        Store.open(notes)
    assert notes.read_text() == "buy milk\n" * 500


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite://", "SQLite needs a file"),
        (":memory:", "SQLite needs a file"),
        ("mysql://host/x", "must be sqlite or postgresql"),
        ("://", "must read like"),
        ("/no/such/folder/store.db", "folder /no/such/folder does not exist"),
    ],
)
def test_a_place_that_cannot_hold_a_store_is_refused(url, problem):
    with pytest.raises(ValueError, match=problem):
        Store.open(url)


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("SQLITE_IOERR_SHMSIZE", errno.ENOSPC, "disk is full"),  # no room for the index of the WAL: so on a full tmpfs
        ("SQLITE_IOERR_READ", errno.EIO, "cannot be read or written (SQLITE_IOERR_READ)"),
    ],
)
def test_an_error_of_the_disk_names_the_file(tmp_path, name: str, number: int, text: str):
    failed = sqlite3.OperationalError("disk I/O error")
    failed.sqlite_errorname = name
    url = engine.database_url(tmp_path / "s.sqlite")
    error = engine.in_plain_words(SimpleNamespace(original_exception=failed, engine=create_engine(url)))
    assert (error.errno, error.filename) == (number, str(tmp_path / "s.sqlite"))
    assert text in error.strerror


def test_a_full_disk_is_an_error_that_names_the_file_and_keeps_all_before_it(tmp_path):
    kept = Prompt.make("kept", source="labeler", user="u")
    many = [Prompt.make(f"{i} " + "x" * 1000, source="labeler", user="u") for i in range(300)]
    with Store.open(tmp_path / "store.db") as store:
        store.add_prompts([kept])
        with store._database.write.connect() as connection:
            raw = connection.connection.driver_connection
            pages = raw.execute("PRAGMA page_count").fetchone()[0]
            raw.execute(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(OSError, match="disk is full; nothing of this change was kept") as error:
            store.add_prompts(many)
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename == str(tmp_path / "store.db")
        assert store.prompts() == [kept]


def test_a_read_only_store_is_an_error_that_names_the_file(tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        with store._database.write.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA query_only = ON")
        with pytest.raises(PermissionError, match="store cannot be written"):
            store.add_prompts([Prompt.make("p", source="labeler", user="u")])
