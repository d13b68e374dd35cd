"""The schema on both databases: from empty, from each older schema with data, undone, and as the code says."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DatabaseError

from instructloop.core.records import FLAGS
from instructloop.store import Store, drafts, engine
from instructloop.store.tables import APPEND_ONLY
from instructloop.store.tables_people import PEOPLE_APPEND_ONLY, metadata
from tests.store.conftest import NOON, Desk


def bring_to(place, revision):
    """Bring a store down to an older schema."""
    database = engine.open_database(place)
    config = engine.migrations()
    with engine.migrating(database.write) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    return database


def test_the_migrations_lead_to_the_tables_of_the_code(new_place):
    database = engine.open_database(new_place)
    with database.read.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_migrations_can_be_undone_and_done_again(new_place):
    database = bring_to(new_place, "base")
    assert set(inspect(database.read).get_table_names()) == {"alembic_version"}
    database.close()
    with Store.open(new_place) as store:
        assert store.prompts() == []


def test_a_store_full_of_work_of_the_first_schema_comes_through_whole(new_place):
    """Rows are written at 0001, where the people's tables do not exist, then the store is opened."""
    database = bring_to(new_place, "0001")
    assert "account" not in inspect(database.read).get_table_names()
    old = Desk(Store(database))
    old.team()
    old.ranking(3, overlap=2)
    old.writing(3)
    ranked = old.claim("ranking", "train-ann")
    first = old.rank(ranked, ratings={ranked.completions[0].id: 7})
    written = old.write(old.claim("writing", "train-bob"), "kept ü as\ttyped")
    held = old.claim("writing", "train-ann")
    old.store.skip(old.claim("ranking", "train-bob").id, "unclear", NOON)
    before = [list(old.store.rankings(["ranking"], ["train"])), list(old.store.demonstrations(["writing"], ["train"]))]
    progress = old.store.task_sets()
    old.store.close()
    with Store.open(new_place) as store:
        rows = [list(store.rankings(["ranking"], ["train"])), list(store.demonstrations(["writing"], ["train"]))]
        assert rows == before
        assert [row.id for part in rows for row in part] == [first, written]
        assert set(rows[0][0].flags[ranked.completions[0].id]) == set(FLAGS)
        assert store.task_sets() == progress
        assert store.claim("writing", "train-ann", NOON).id == held.id  # the lease goes on
        desk = Desk(store)
        desk.write(held)
        token = store.accounts.first_owner_invite(NOON)
        assert store.accounts.sign_up(token, "Olga", "o@example.org", "hash", NOON).role == "owner"


def test_people_and_their_work_of_the_second_schema_come_through_whole(new_place):
    """At 0002 nobody says in which language a prompt is."""
    database = bring_to(new_place, "0002")
    assert "prompt_language" not in inspect(database.read).get_table_names()
    old = Desk(Store(database))
    accounts = old.store.accounts
    _, token = accounts.invite("labeler", "train", "", None, NOON)
    ann = accounts.sign_up(token, "Ann", "ann@example.org", "hash", NOON)
    own = old.store.desk.write_prompt(ann.labeler_id, "plain", "Name a river.", (), "", NOON)
    old.writing(2)
    held = old.claim("writing", ann.labeler_id)
    with database.write.begin() as connection:
        drafts.save(connection, held.id, 3, {"text": "half ü"}, NOON)
    events = old.store.audit.events()
    old.store.close()
    with Store.open(new_place) as store:
        assert store.accounts.account(ann.id) == ann
        assert store.audit.events() == events
        assert [made.prompt for made in store.desk.written(ann.labeler_id)] == [own]
        item = store.desk.assignment(held.id, ann.labeler_id)
        assert (item.draft.rev, item.draft.body, item.language) == (3, {"text": "half ü"}, None)
        assert store.say_languages({held.prompt.id: "de", own.id: "fr", "nobody": "en"}) == 2
        assert store.desk.assignment(held.id, ann.labeler_id).language == "de"


@pytest.mark.parametrize("table", [table.name for table in (*APPEND_ONLY, *PEOPLE_APPEND_ONLY)])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_sqlite_has_both_triggers_of_every_append_only_table(empty_store, backend, table):
    with Store.open(empty_store) as store, store._database.read.connect() as connection:
        query = text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table ORDER BY name")
        assert connection.execute(query, {"table": table}).scalars().all() == [
            f"{table}_no_delete",
            f"{table}_no_update",
        ]


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresql_has_both_triggers_of_every_append_only_table(desk):
    query = text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O' ORDER BY tgname")
    with desk.store._database.read.connect() as connection:
        found = connection.execute(query).scalars().all()
    tables = [table.name for table in (*APPEND_ONLY, *PEOPLE_APPEND_ONLY)]
    assert found == sorted(f"{table}_no_{event}" for table in tables for event in ("delete", "update"))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_postgresql_itself_refuses_to_change_an_answer(desk):
    desk.writing()
    desk.write(desk.claim("writing", "train-ann"))
    for change in ("DELETE FROM demonstration", "UPDATE demonstration SET text = 'x'"):
        with (
            pytest.raises(DatabaseError, match="demonstration is append-only"),
            desk.store._database.write.begin() as connection,
        ):
            connection.execute(text(change))
