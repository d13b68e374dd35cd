"""Backups of a store in use, and restoring them: the whole store or none of it, and never over one that is open."""

import sqlite3
import threading
from pathlib import Path

import pytest

from instructloop.core.records import Prompt
from instructloop.store import Store
from instructloop.store.backup import backup, restore

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def prompts_in(path):
    with Store.open(path) as store:
        return [prompt.text for prompt in store.prompts()]


def add(store, text):
    store.add_prompts([Prompt.make(text, source="labeler", user="u")])


def test_a_restored_backup_is_the_store_of_that_moment_and_the_old_one_is_kept(desk, store_place, tmp_path):
    desk.writing()
    submission = desk.write(desk.claim("writing", "train-ann"))
    file = tmp_path / "monday.sqlite"
    assert backup(store_place, file) == file.stat().st_size > 10_000
    add(desk.store, "tuesday's")
    desk.store.close()
    kept = restore(file, store_place)
    assert kept == Path(f"{store_place}.before-restore")
    with Store.open(store_place) as store:
        assert [row.id for row in store.demonstrations(["writing"], ["train"])] == [submission]
        assert [prompt.text for prompt in store.prompts()] == ["train prompt 0"]
        with pytest.raises(Exception, match="append-only"), store._database.write.begin() as connection:
            connection.exec_driver_sql("DELETE FROM submission")
    assert "tuesday's" in prompts_in(kept)
    assert not [left for left in tmp_path.iterdir() if left.name.endswith(".part")]


def test_a_backup_during_writing_is_one_moment(desk, store_place, tmp_path):
    """Prompts are added in pairs, each pair one transaction: a backup holds pairs."""
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            pair = [Prompt.make(f"{number} {half}", source="labeler", user="u") for half in "ab"]
            desk.store.add_prompts(pair)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            backup(store_place, tmp_path / f"{number}.db")
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        texts = prompts_in(tmp_path / f"{number}.db")
        assert len(texts) == 2 * len({text.split()[0] for text in texts})


def test_a_store_that_is_open_is_not_replaced(desk, store_place, tmp_path):
    backup(store_place, tmp_path / "b.db")
    add(desk.store, "new")
    with pytest.raises(ValueError, match="is in use"):
        restore(tmp_path / "b.db", store_place)
    assert [prompt.text for prompt in desk.store.prompts()] == ["new"]
    assert not Path(f"{store_place}.before-restore").exists()


def test_a_backup_overwrites_nothing_and_a_second_restore_neither(desk, store_place, tmp_path):
    (tmp_path / "notes").write_text("buy milk")
    with pytest.raises(ValueError, match="notes exists; a backup does not overwrite"):
        backup(store_place, tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "buy milk"
    backup(store_place, tmp_path / "b.db")
    desk.store.close()
    restore(tmp_path / "b.db", store_place)
    with pytest.raises(ValueError, match="is there from an earlier restore"):
        restore(tmp_path / "b.db", store_place)


def broken(path):
    """Overwrite the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(data)


def test_what_is_no_whole_store_is_not_restored(desk, store_place, tmp_path):
    add(desk.store, "mine")
    for name in ("damaged", "newer"):
        backup(store_place, tmp_path / name)
    broken(tmp_path / "damaged")
    for name, change in (
        ("newer", "UPDATE alembic_version SET version_num = '9999'"),
        ("other", "CREATE TABLE recipes (id)"),
    ):
        with sqlite3.connect(tmp_path / name) as connection:
            connection.execute(change)
        connection.close()
    (tmp_path / "text").write_text("buy milk\n" * 500)
    (tmp_path / "empty").touch()
    desk.store.close()
    problems = {
        "damaged": "damaged|not an SQLite",
        "newer": "no store of this or an earlier version",
        "other": "holds other tables",
        "text": "not an SQLite database",
        "empty": "no store of this",
        "missing": "does not exist",
    }
    for name, problem in problems.items():
        with pytest.raises(ValueError, match=problem):
            restore(tmp_path / name, store_place)
    assert prompts_in(store_place) == ["mine"]


def test_a_backup_makes_a_store_where_none_is(desk, store_place, tmp_path):
    add(desk.store, "mine")
    backup(store_place, tmp_path / "b.db")
    assert restore(tmp_path / "b.db", tmp_path / "fresh.db") is None
    assert prompts_in(tmp_path / "fresh.db") == ["mine"]
    with pytest.raises(ValueError, match=r"gone\.db does not exist"):
        backup(tmp_path / "gone.db", tmp_path / "c.db")


def test_postgresql_has_its_own_program(backend, tmp_path):
    url = "postgresql://ann:secret@host/labels"
    with pytest.raises(ValueError, match="pg_dump --format=custom") as error:
        backup(url, tmp_path / "b.db")
    assert "secret" not in str(error.value)
    (tmp_path / "b.db").touch()
    with pytest.raises(ValueError, match="pg_restore"):
        restore(tmp_path / "b.db", url)
