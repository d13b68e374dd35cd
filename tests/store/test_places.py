"""Where a store may be: drivers, columns and errors of PostgreSQL, and file systems that SQLite must not be on."""

import errno
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

import pytest
from sqlalchemy import text

from instructloop.core.records import Completion, Prompt
from instructloop.store import Store, engine, filesystems
from instructloop.store.plainly import of_postgresql
from tests.store.postgres import name_of

ON_POSTGRESQL = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_is_spoken_to_through_psycopg_3(scheme):
    url = engine.database_url(f"{scheme}://ann:secret@host/labels")
    assert (url.drivername, url.database, url.password) == ("postgresql+psycopg", "labels", "secret")
    assert engine.new_engine(url).driver == "psycopg"


@pytest.mark.parametrize("url", ["postgresql+psycopg2://ann:secret@host/x", "mysql://ann:secret@host/x"])
def test_other_drivers_are_refused_without_telling_the_password(url):
    with pytest.raises(ValueError, match="must be sqlite or postgresql") as error:
        engine.database_url(url)
    assert "secret" not in str(error.value)


@ON_POSTGRESQL
def test_columns_are_of_postgresqls_own_types(desk):
    query = text("SELECT table_name || '.' || column_name, data_type FROM information_schema.columns")
    with desk.store._database.read.connect() as connection:
        types = dict(tuple(row) for row in connection.execute(query))
    assert types["comparison.tiers"] == types["rating.flags"] == types["draft.body"] == "jsonb"
    assert types["assignment.expires_at"] == types["session.last_seen_at"] == "timestamp with time zone"
    assert "json" not in types.values()


@ON_POSTGRESQL
def test_times_come_back_in_utc_whatever_the_session_says(desk):
    token = desk.store.accounts.first_owner_invite(desk.now)
    with desk.store._database.write.begin() as connection:
        connection.execute(text("SET LOCAL timezone = 'Asia/Kolkata'"))
    invite = desk.store.accounts.find_invite(token, desk.now)
    assert invite.created_at == desk.now
    assert invite.created_at.tzinfo is UTC


@ON_POSTGRESQL
def test_readers_cannot_write_and_see_one_moment(desk):
    with desk.store._database.read.connect() as connection:
        count = text("SELECT count(*) FROM prompt")
        assert connection.execute(count).scalar() == 0
        desk.prompts(3)
        assert connection.execute(count).scalar() == 0
        with pytest.raises(PermissionError, match="store cannot be written"):
            connection.execute(text("DELETE FROM prompt"))


@ON_POSTGRESQL
def test_text_that_postgresql_cannot_store_is_refused_in_plain_words(desk):
    (prompt,) = desk.prompts(1)
    bad = Completion.make(prompt.id, "a\x00b", policy="p", policy_run="r", index=0, sampling={}, finished=True)
    with pytest.raises(ValueError, match="cannot store this text"):
        desk.store.add_completions([bad])


@ON_POSTGRESQL
def test_a_database_that_is_not_there_is_an_error_without_the_password(backend, postgres):
    url = postgres.server.get_uri(database="nowhere").replace("postgres:@", "postgres:secret@")
    with pytest.raises(ConnectionError, match='database "nowhere" does not exist') as error:
        Store.open(url)
    assert "secret" not in str(error.value)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        Store.open("postgresql://ann:secret@127.0.0.1:1/x")


@ON_POSTGRESQL
def test_a_foreign_or_newer_database_is_left_alone(new_place, postgres):
    import psycopg

    with psycopg.connect(new_place, autocommit=True) as connection:
        connection.execute("CREATE TABLE recipes (id int)")
    with pytest.raises(ValueError, match=rf"{name_of(new_place)} holds other tables \(recipes\)"):
        Store.open(new_place)
    with psycopg.connect(new_place, autocommit=True) as connection:
        connection.execute("DROP TABLE recipes")
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    with pytest.raises(ValueError, match="schema 9999, written by a newer version"):
        Store.open(new_place)


@ON_POSTGRESQL
def test_several_may_make_the_same_store_at_once(new_place):
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store.open(new_place), range(4)))
    stores[0].add_prompts([Prompt.make("p", source="labeler", user="u")])
    assert [len(store.prompts()) for store in stores] == [1] * 4
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    ("state", "kind", "number"),  # SQLSTATEs of the PostgreSQL manual, appendix A
    [
        ("53100", OSError, errno.ENOSPC),
        ("53300", ConnectionError, errno.ECONNREFUSED),
        ("57P01", ConnectionError, errno.ECONNREFUSED),
        ("25006", PermissionError, errno.EACCES),
        ("42501", PermissionError, errno.EACCES),
        ("40P01", TimeoutError, errno.ETIMEDOUT),
        ("55P03", TimeoutError, errno.ETIMEDOUT),
    ],
)
def test_errors_of_postgresql_are_those_of_the_system(state, kind, number):
    error = of_postgresql("what it\nsays", state, "postgresql://host/x", is_new=False)
    assert isinstance(error, kind)
    assert (error.errno, error.filename) == (number, "postgresql://host/x")
    assert of_postgresql("unique", "23505", "x", is_new=False) is None


MOUNTS = """22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 27 0:40 / /mnt/team rw,relatime shared:2 master:3 - nfs4 server:/export rw,vers=4.2
32 31 254:1 / /mnt/team/local rw - xfs /dev/vdb rw
33 27 0:41 / /mnt/with\\040space rw - cifs //server/share rw
34 27 0:42 / /home/ann/far rw - fuse.sshfs ann@host: rw
35 27 0:43 / /over rw - nfs4 server:/export rw
36 27 0:44 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ann", "ext4"),
        ("/mnt/team/labels", "nfs4"),
        ("/mnt/team/local/labels", "xfs"),
        ("/mnt/teammates", "ext4"),
        ("/mnt/with space", "cifs"),
        ("/home/ann/far/away", "fuse.sshfs"),
        ("/over/it", "tmpfs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount(folder, kind):
    assert filesystems.mount_of(Path(folder), MOUNTS)[1] == kind


def test_sqlite_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    for kind in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre"):
        mounts.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n31 27 0:40 / {tmp_path} rw - {kind} server: rw\n")
        with pytest.raises(ValueError, match=rf"{tmp_path} is a network file system \({kind}\)"):
            Store.open(tmp_path / "store.db")
    assert not (tmp_path / "store.db").exists()
    for kind in ("ext4", "btrfs", "overlay", "tmpfs", "fuseblk"):
        mounts.write_text(f"27 1 254:0 / / rw - {kind} /dev/vda rw\n")
        Store.open(tmp_path / f"{kind}.db").close()
