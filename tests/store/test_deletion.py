"""Removing people: what the dry run says is what is done, others' rows stay, and answers stay append-only."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from instructloop.store import TaskItem, deletion
from instructloop.store.people import NotAllowed
from instructloop.store.sessions import guess_key
from instructloop.store.tables_people import metadata
from tests.store.people_desk import open_office

TIMES = {"active_seconds": 3.0, "wall_seconds": 4.0, "instruction": 1}


@pytest.fixture
def office(desk):
    return open_office(desk.store, desk.now)


def rows_of(desk) -> dict[str, Counter]:
    """Return all rows of all tables."""
    with desk.store._database.read.connect() as connection:
        return {
            name: Counter(repr(tuple(row)) for row in connection.execute(table.select()))
            for name, table in metadata.tables.items()
        }


def worked(desk, office, name="Ann"):
    """Sign somebody up who submits, revises, skips, leaves a draft and a lease, annotates and writes two prompts."""
    person = office.labeler(name)
    me, at = person.labeler_id, desk.store.desk
    for number, task_set in enumerate(("writing", "ranking")):
        assignment = desk.claim(task_set, me)
        answer = f"{name} wrote this" if task_set == "writing" else desk.form(assignment, notes={})
        at.submit(assignment.id, me, answer, key=f"{number}", now=desk.now, **TIMES)
    other = dict.fromkeys((completion.id for completion in assignment.completions), 7)
    at.revise(assignment.id, me, desk.form(assignment, ratings=other), key="again", now=desk.now, **TIMES)
    desk.store.skip(desk.claim("writing", me).id, f"{name} does not like it", desk.now)
    at.save_draft(desk.claim("writing", me).id, me, 1, {"text": f"{name}'s draft"}, desk.now)
    for number in range(2):
        prompt = at.write_prompt(me, "plain", f"{name} asks {number}", [], "", desk.now, language="en")
    at.annotate(prompt.id, me, None, {"ambiguous": True}, desk.now)
    desk.store.accounts.open_session(person.id, "agent", desk.now)
    desk.store.accounts.password_link(person.id, office.owner.id, desk.now)
    desk.store.accounts.record_failure(guess_key("account", person.email), desk.now)
    return person, prompt


@pytest.fixture
def two(desk, office):
    """Ann and Bea, who have done the same; a task hangs on one of Ann's prompts."""
    desk.writing(8, overlap=2)
    desk.ranking(3, overlap=2)
    ann, prompt = worked(desk, office, "Ann")
    bea, _ = worked(desk, office, "Bea")
    desk.store.open_tasks("on hers", "demonstrate", [TaskItem(prompt.id)], overlap=1, cohort="train", now=desk.now)
    return ann, bea


# rows by hand, from what `worked` does
PSEUDONYMISED = {
    "sessions": 1,
    "links for a new password": 1,
    "drafts": 1,
    "leases": 1,
    "open invitations": 0,
    "notes of invitations": 0,
    "failed sign-ins": 1,
    "accounts": 1,
}
PURGED = PSEUDONYMISED | {
    "grades of their answers": 0,
    "circumstances": 3,  # a demonstration, a comparison, its revision
    "ratings": 6,  # three completions twice
    "comparisons": 2,
    "demonstrations": 1,
    "submissions": 3,
    "assignments": 4,  # two submitted, one skipped, one leased
    "decisions about them": 0,
    "annotations": 1,
    "written prompts": 2,
    "languages of prompts that nobody worked on": 1,
    "prompts that nobody worked on": 1,
    "consents": 0,
    "links to the labeler": 1,
    "labelers": 1,
    deletion.KEPT: 1,
}


def test_the_dry_run_counts_what_somebody_has_and_changes_nothing(desk, two):
    before = rows_of(desk)
    dry = desk.store.deletion.dry_run(two[0].id)
    assert (dry.pseudonymise, dry.purge) == (PSEUDONYMISED, PURGED)
    assert ("submissions", 0, 3) in dry.rows()
    assert ("sessions", 1, 1) in dry.rows()
    assert rows_of(desk) == before


@pytest.mark.parametrize("way", ["pseudonymise", "purge"])
def test_what_is_done_is_what_the_dry_run_said_row_by_row(desk, office, two, way):
    ann, bea = two
    before, dry = rows_of(desk), desk.store.deletion.dry_run(ann.id)
    done = getattr(desk.store.deletion, way)(ann.id, office.owner.id, desk.now)
    assert done == getattr(dry, way)
    after = rows_of(desk)
    lost = {name: (before[name] - after[name]).total() for name in before}  # changed rows are lost and new
    new = {name: (after[name] - before[name]).total() for name in before}
    expected = {
        "session": 1,
        "password_link": 1,
        "draft": 1,
        "assignment": 1,
        "login_failure": 1,
        "account": 1,
        "task": 1,
    }
    if way == "purge":  # tasks: submitted twice, skipped, leased
        expected |= {"circumstance": 3, "rating": 6, "comparison": 2, "demonstration": 1, "submission": 3, "task": 4}
        expected |= {
            "assignment": 4,
            "annotation": 1,
            "written_prompt": 2,
            "prompt_language": 1,
            "prompt": 1,
            "labeler": 1,
        }
    assert {name: number for name, number in lost.items() if number} == expected
    changed = {"account": 1, "task": expected["task"], "audit_event": 1}
    assert {name: number for name, number in new.items() if number} == (
        changed | ({"assignment": 1} if way == "pseudonymise" else {})
    )
    assert not any(bea.id in row or bea.labeler_id in row for name in before for row in before[name] - after[name])


def test_pseudonymised_judgements_stay_under_the_random_id(desk, office, two):
    ann, _ = two
    desk.store.deletion.pseudonymise(ann.id, office.owner.id, desk.now)
    rows = list(desk.store.demonstrations(["writing"], ["train"]))
    assert "Ann wrote this" in [row.text for row in rows if row.labeler == ann.labeler_id]
    account = desk.store.accounts.account(ann.id)
    assert (account.name, account.email, account.state, account.topics) == (None, None, "removed", "")
    assert desk.store.accounts.account_by_email("ann@example.org") is None
    assert desk.store.accounts.password_hash(ann.id) is None
    assert desk.store.progress("writing").num_leased == 1  # Bea's
    desk.store.deletion.purge(ann.id, office.owner.id, desk.now)  # and later the judgements too
    assert {row.labeler for row in desk.store.demonstrations(["writing"], ["train"])} == {two[1].labeler_id}


def test_a_purge_opens_the_slots_to_others_again(desk, office, two):
    ann, _ = two
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_leased, progress.num_skipped) == (2, 2, 2)
    desk.store.deletion.purge(ann.id, office.owner.id, desk.now)
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_leased, progress.num_skipped) == (1, 1, 1)
    assert progress.num_remaining == 8 * 2 - 1
    given = []
    while assignment := desk.store.claim("writing", "train-ann", desk.now):
        given.append(assignment.task_id)
        desk.write(assignment)
    assert len(given) == 8
    with desk.store._database.read.connect() as connection:  # counters are what they count
        held = connection.execute(text("SELECT sum(num_held), sum(num_submitted), sum(num_skipped) FROM task")).one()
        states = dict(connection.execute(text("SELECT state, count(*) FROM assignment GROUP BY state")).all())
    counted = (states["leased"] + states["submitted"], states["submitted"], states["skipped"])
    assert tuple(held) == counted


def test_answers_are_append_only_again_after_a_purge(desk, office, two):
    desk.store.deletion.purge(two[0].id, office.owner.id, desk.now)
    for table in ("submission", "rating", "annotation", "circumstance", "written_prompt", "audit_event"):
        for change in ("DELETE FROM {}", "UPDATE {0} SET {1} = {1}"):
            column = next(iter(metadata.tables[table].columns)).name
            with (
                pytest.raises(DatabaseError, match=f"{table} is append-only"),
                desk.store._database.write.begin() as connection,
            ):
                connection.execute(text(change.format(table, column)))


def test_a_purge_that_fails_leaves_everything_as_it_was(desk, office, two, monkeypatch):
    before = rows_of(desk)
    monkeypatch.setattr(deletion, "record", lambda *values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.store.deletion.purge(two[0].id, office.owner.id, desk.now)
    assert rows_of(desk) == before
    with pytest.raises(DatabaseError, match="append-only"), desk.store._database.write.begin() as connection:
        connection.execute(text("DELETE FROM submission"))


def test_only_owners_remove_others_and_the_last_owner_stays(desk, office):
    ann, rita = office.labeler("Ann"), office.person("researcher", "researcher", "Rita")
    removing = desk.store.deletion
    for by in (rita.id, ann.id, "nobody"):
        with pytest.raises(NotAllowed):
            removing.purge(ann.id, by, desk.now)
    with pytest.raises(NotAllowed):
        removing.pseudonymise(rita.id, ann.id, desk.now)
    with pytest.raises(ValueError, match="the last owner cannot be"):
        removing.pseudonymise(office.owner.id, office.owner.id, desk.now)
    with pytest.raises(ValueError, match="the last owner cannot be"):
        removing.purge(office.owner.id, None, desk.now)
    removing.pseudonymise(ann.id, ann.id, desk.now)  # their own name
    with pytest.raises(ValueError, match="was removed already"):
        removing.pseudonymise(ann.id, office.owner.id, desk.now)
    second = office.person("owner", None, "Otto")
    removing.pseudonymise(office.owner.id, second.id, desk.now)
    with pytest.raises(ValueError, match="the last owner cannot be"):
        removing.pseudonymise(second.id, second.id, desk.now)
    assert desk.store.accounts.first_owner_invite(desk.now) is None


def test_a_removal_is_in_the_audit_log_as_numbers(desk, office, two):
    desk.store.deletion.purge(two[0].id, office.owner.id, desk.now)
    (event,) = desk.store.audit.events(action="account.purge")
    assert (event.actor, event.object_id, event.details) == (office.owner.id, two[0].id, PURGED)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("way", ["pseudonymise", "purge"])
def test_nothing_of_the_person_is_left_in_the_files(desk, office, two, way, store_place):
    words = {b"ann@example.org", b"hash of Ann", b"Ann's draft"} | ({b"Ann wrote this"} if way == "purge" else set())
    assert words <= {word for word in words for file in Path(store_place).parent.iterdir() if word in file.read_bytes()}
    getattr(desk.store.deletion, way)(two[0].id, office.owner.id, desk.now)
    for file in Path(store_place).parent.glob("store.db*"):
        assert not [word for word in words if word in file.read_bytes()]
