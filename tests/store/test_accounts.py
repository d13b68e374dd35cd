"""Accounts, invitations, sessions, back-off, consent and roles: what strangers, thieves and colleagues may not do."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, text

from instructloop.store.people import NotAllowed
from instructloop.store.sessions import guess_key
from instructloop.store.tables_people import metadata
from tests.store.people_desk import open_office

HOUR, DAY = 3600, 86400


@pytest.fixture
def office(desk):
    return open_office(desk.store, desk.now)


@pytest.fixture
def accounts(desk, office):
    return desk.store.accounts


def outcomes(pool_size, function):
    """Call a function at the same time from many threads; return the results and the errors."""
    start = threading.Barrier(pool_size)

    def call(number):
        start.wait()
        try:
            return function(number)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(pool_size) as pool:
        found = list(pool.map(call, range(pool_size)))
    return [one for one in found if not isinstance(one, ValueError)], [e for e in found if isinstance(e, ValueError)]


# Invitations


def test_the_first_owner_comes_by_a_link_that_a_new_one_replaces(desk):
    accounts = desk.store.accounts
    first = accounts.first_owner_invite(desk.now)
    second = accounts.first_owner_invite(desk.now)
    assert accounts.find_invite(first, desk.now) is None
    with pytest.raises(ValueError, match="not valid"):
        accounts.sign_up(first, "Eve", "eve@example.org", "hash", desk.now)
    owner = accounts.sign_up(second, "Olga", "olga@example.org", "hash", desk.now)
    assert (owner.role, owner.labeler_id, owner.cohort, owner.is_active) == ("owner", None, None, True)
    assert accounts.first_owner_invite(desk.now) is None


def test_a_forgotten_first_link_opens_nothing_once_there_is_an_owner(desk):
    accounts = desk.store.accounts
    old, new = (accounts.first_owner_invite(desk.now) for _ in range(2))
    with desk.store._database.write.begin() as connection:  # as two processes that started at once would leave it
        connection.execute(text("UPDATE invite SET revoked_at = NULL"))
    (owner,), (refused,) = outcomes(
        2, lambda i: accounts.sign_up((old, new)[i], f"O{i}", f"o{i}@example.org", "hash", desk.now)
    )
    assert "not valid" in str(refused)
    assert [one.id for one in accounts.accounts()] == [owner.id]


def test_an_invitation_gives_its_role_and_cohort_and_a_random_labeler(desk, office, accounts):
    invite, token = accounts.invite("labeler", "heldout", " for Ann ", office.owner.id, desk.now)
    assert accounts.find_invite(token, desk.now) == invite
    assert (invite.note, invite.state(desk.now)) == ("for Ann", "open")
    ann = accounts.sign_up(token, " Ann ", " Ann@Example.ORG ", "hash", desk.now)
    assert (ann.name, ann.email, ann.role, ann.cohort) == ("Ann", "ann@example.org", "labeler", "heldout")
    assert re.fullmatch(r"labeler-[0-9a-f]{12}", ann.labeler_id)
    assert {one.id: one.origin for one in desk.store.labelers("heldout")}[ann.labeler_id] == "person"
    assert accounts.account_by_email("ANN@example.org") == ann == accounts.account(ann.id)
    (used,) = [one for one in accounts.invites() if one.id == invite.id]
    assert (used.used_by, used.state(desk.now)) == (ann.id, "used")
    _, token = accounts.invite("labeler", "train", "simulated", office.owner.id, desk.now)
    robot = accounts.sign_up(token, "R", "r@simulated.invalid", "hash", desk.now)
    assert {one.id: one.origin for one in desk.store.labelers("train")}[robot.labeler_id] == "simulated"


def test_an_invitation_used_by_eight_at_once_makes_one_account(desk, office, accounts):
    _, token = accounts.invite("labeler", "train", "", office.owner.id, desk.now)
    made, refused = outcomes(8, lambda i: accounts.sign_up(token, "A", f"a{i}@example.org", "hash", desk.now))
    assert (len(made), len(refused)) == (1, 7)
    assert all("not valid" in str(error) for error in refused)
    assert len(accounts.accounts()) == 2
    assert len([one for one in desk.store.labelers() if one.origin == "person"]) == 1


def test_one_email_has_one_account(desk, office, accounts):
    tokens = [accounts.invite("labeler", "train", "", office.owner.id, desk.now)[1] for _ in range(4)]
    made, refused = outcomes(4, lambda i: accounts.sign_up(tokens[i], "A", "A@example.org", "hash", desk.now))
    assert (len(made), len(refused)) == (1, 3)
    assert all("email already" in str(error) for error in refused)
    assert sum(accounts.find_invite(token, desk.now) is not None for token in tokens) == 3  # not used up


def test_an_invitation_ends_when_it_runs_out_is_withdrawn_or_its_maker_goes(desk, office, accounts):
    rita = office.person("researcher", "researcher", "Rita")
    made = [accounts.invite("labeler", "train", "", rita.id, desk.now, days=1) for _ in range(3)]
    (late, late_token), (withdrawn, withdrawn_token), (_, orphan) = made
    assert accounts.find_invite(late_token, desk.later(DAY - 1)) == late
    assert accounts.find_invite(late_token, desk.later(DAY)) is None
    assert late.state(desk.later(DAY)) == "expired"
    accounts.revoke_invite(withdrawn.id, rita.id, desk.now)
    accounts.revoke_invite(withdrawn.id, rita.id, desk.now)
    assert accounts.find_invite(orphan, desk.now)
    accounts.set_state(rita.id, "paused", office.owner.id, desk.now)
    for token, now in ((late_token, desk.later(DAY)), (withdrawn_token, desk.now), (orphan, desk.now), ("x", desk.now)):
        assert accounts.find_invite(token, now) is None
        with pytest.raises(ValueError, match="not valid"):
            accounts.sign_up(token, "A", "a@example.org", "hash", now)
    used = next(one for one in accounts.invites() if one.used_by == rita.id)
    with pytest.raises(ValueError, match="was used"):
        accounts.revoke_invite(used.id, office.owner.id, desk.now)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_names_and_emails_that_deceive_are_refused(desk, office, accounts):
    _, token = accounts.invite("labeler", "train", "", office.owner.id, desk.now)
    for name, email in (
        (" ", "a@example.org"),
        ("A\nB", "a@example.org"),
        ("A\u202eB", "a@example.org"),
        ("A" * 201, "a@example.org"),
        ("A", "example.org"),
        ("A", "a b@example.org"),
        ("A", "a@b@example.org"),
    ):
        with pytest.raises(ValueError, match=r"name|email"):
            accounts.sign_up(token, name, email, "hash", desk.now)
    assert accounts.find_invite(token, desk.now)


# Tokens


def test_tokens_are_stored_as_sha256_alone(desk, office, accounts):
    ann = office.labeler()
    _, invite = accounts.invite("labeler", "train", "", office.owner.id, desk.now)
    tokens = [invite, accounts.open_session(ann.id, "agent", desk.now)[0]]
    tokens.append(accounts.password_link(ann.id, office.owner.id, desk.now))
    assert all(len(token) == 43 for token in tokens)  # 256 bits in base 64
    with desk.store._database.read.connect() as connection:
        stored = "".join(repr(connection.execute(select(table)).all()) for table in metadata.tables.values())
    assert not [token for token in tokens if token in stored]
    for table in ("session", "invite", "password_link"):
        with desk.store._database.read.connect() as connection:
            (digest, *_) = connection.execute(text(f"SELECT token_hash FROM {table}")).scalars()
        assert re.fullmatch("[0-9a-f]{64}", digest)


# Sessions


def test_a_session_belongs_to_its_browser_and_ends_idle_or_old(desk, office, accounts):
    ann = office.labeler()
    token, csrf_token = accounts.open_session(ann.id, "agent", desk.now)
    session = accounts.find_session(token, "agent", desk.now)
    assert (session.account, session.csrf_token) == (ann, csrf_token)
    assert accounts.find_session(token, "another browser", desk.now) is None
    assert accounts.find_session("guess", "agent", desk.now) is None
    assert accounts.find_session(token, "agent", desk.later(12 * HOUR)) is None
    for hour in range(11, 14 * 24, 11):  # kept alive
        assert accounts.find_session(token, "agent", desk.later(hour * HOUR))
    assert accounts.find_session(token, "agent", desk.later(14 * DAY - 1))
    assert accounts.find_session(token, "agent", desk.later(14 * DAY)) is None


def test_a_visit_is_written_at_most_once_a_minute(desk, office, accounts):
    token, _ = accounts.open_session(office.owner.id, "agent", desk.now)
    seen = [accounts.find_session(token, "agent", desk.later(second)).last_seen_at for second in (59, 60, 119, 121)]
    assert seen == [desk.now, desk.now, desk.later(60), desk.later(60)]


def test_sessions_end_with_password_role_and_pause(desk, office, accounts):
    ann = office.labeler()

    def is_out(act):
        token, _ = accounts.open_session(ann.id, "agent", desk.now)
        act()
        return accounts.find_session(token, "agent", desk.now) is None

    by = office.owner.id
    assert not is_out(lambda: accounts.set_password(ann.id, "rehashed", desk.now, end_sessions=False))
    assert is_out(lambda: accounts.set_password(ann.id, "new", desk.now))
    assert accounts.password_hash(ann.id) == "new"
    assert is_out(lambda: accounts.set_role(ann.id, "researcher", by, desk.now))
    assert is_out(lambda: accounts.close_all_sessions(ann.id))
    assert is_out(lambda: accounts.set_state(ann.id, "paused", by, desk.now))
    with pytest.raises(ValueError, match="is paused and cannot sign in"):
        accounts.open_session(ann.id, "agent", desk.now)
    accounts.set_state(ann.id, "active", by, desk.now)
    one, _ = accounts.open_session(ann.id, "agent", desk.now)
    other, _ = accounts.open_session(ann.id, "agent", desk.now)
    accounts.close_session(one)
    assert [accounts.find_session(token, "agent", desk.now) is None for token in (one, other)] == [True, False]


# Guessing


def test_waits_double_after_five_failures_and_never_exceed_a_minute(desk, accounts):
    key, now, waits = guess_key("account", "Ann@example.org "), desk.now, []
    assert key == guess_key("account", "ann@example.org")
    for _ in range(14):
        accounts.record_failure(key, now)
        waits.append(accounts.failures(key, now))
        now += timedelta(seconds=waits[-1])
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert accounts.failures(guess_key("account", "bea@example.org"), now) == 0
    accounts.clear_failures(key)
    assert accounts.failures(key, now) == 0


def test_guesses_during_a_wait_lengthen_it_but_do_not_start_it_anew(desk, accounts):
    key = guess_key("account", "ann@example.org")
    for number in range(60):  # somebody guesses without a pause
        accounts.record_failure(key, desk.later(number / 20))
    assert 57 <= accounts.failures(key, desk.later(3)) <= 60
    assert accounts.failures(key, desk.later(61)) == 0


def test_guesses_sent_at_once_are_all_counted(desk, accounts):
    key = guess_key("account", "ann@example.org")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: accounts.record_failure(key, desk.now), range(12)))
    assert accounts.failures(key, desk.now) == 60
    assert accounts.failures(key, desk.later(DAY)) == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_address_has_more_tries_and_longer_waits(desk, accounts):
    key, now, waits = guess_key("address", "192.0.2.7"), desk.now, []
    for _ in range(40):
        accounts.record_failure(key, now)
        waits.append(accounts.failures(key, now))
        now += timedelta(seconds=waits[-1])
    assert waits[:20] == [0] * 20
    assert (waits[20], waits[21], waits[-1]) == (1, 2, 900)


# Roles


def test_researchers_handle_labelers_and_nobody_rises_by_themself(desk, office, accounts):
    by = {
        role: office.person(role, "researcher" if role == "researcher" else None, role)
        for role in ("researcher", "auditor")
    }
    ann, bea = office.labeler("Ann"), office.labeler("Bea")
    by["labeler"] = bea
    assert accounts.invite("labeler", "train", "", by["researcher"].id, desk.now)
    assert accounts.set_state(ann.id, "paused", by["researcher"].id, desk.now).state == "paused"
    for role in ("researcher", "auditor", "labeler"):
        for wanted, cohort in (("owner", None), ("researcher", "researcher"), ("auditor", None)):
            with pytest.raises(NotAllowed):
                accounts.invite(wanted, cohort, "", by[role].id, desk.now)
        for act in (
            lambda who: accounts.set_role(who, "owner", who, desk.now),
            lambda who: accounts.set_state(office.owner.id, "paused", who, desk.now),
            lambda who: accounts.password_link(office.owner.id, who, desk.now),
            lambda who: accounts.set_consent("mine", who, desk.now),
        ):
            with pytest.raises(NotAllowed):
                act(by[role].id)
    for role in ("auditor", "labeler"):
        with pytest.raises(NotAllowed):
            accounts.invite("labeler", "train", "", by[role].id, desk.now)
        with pytest.raises(NotAllowed):
            accounts.set_state(ann.id, "active", by[role].id, desk.now)
    accounts.set_state(by["researcher"].id, "paused", office.owner.id, desk.now)
    with pytest.raises(NotAllowed, match="active account"):
        accounts.set_state(ann.id, "active", by["researcher"].id, desk.now)


def test_the_last_owner_stays_also_when_two_give_up_at_once(desk, office, accounts):
    first = office.owner
    for act in (
        lambda: accounts.set_role(first.id, "auditor", first.id, desk.now),
        lambda: accounts.set_state(first.id, "paused", None, desk.now),
    ):
        with pytest.raises(ValueError, match="the last owner cannot be"):
            act()
    second = office.person("owner", None, "Otto")
    both = (first.id, second.id)
    made, refused = outcomes(2, lambda i: accounts.set_role(both[i], "auditor", both[i], desk.now))
    assert (len(made), len(refused)) == (1, 1)
    assert sum(one.role == "owner" for one in accounts.accounts()) == 1


def test_a_role_keeps_the_cohort_of_the_judgements_made(desk, office, accounts):
    ann, eve = office.labeler("Ann", "heldout"), office.person("auditor", None, "Eve")
    by = office.owner.id
    risen = accounts.set_role(ann.id, "researcher", by, desk.now)
    assert (risen.labeler_id, risen.cohort) == (ann.labeler_id, "heldout")
    with pytest.raises(ValueError, match="cohort None of role labeler"):
        accounts.set_role(eve.id, "labeler", by, desk.now)
    assert accounts.set_role(eve.id, "labeler", by, desk.now, cohort="train").cohort == "train"
    for role, cohort in (("labeler", "researcher"), ("labeler", None), ("owner", "train"), ("researcher", "train")):
        with pytest.raises(ValueError, match=f"of role {role} must be one of"):
            accounts.invite(role, cohort, "", by, desk.now)


# Links for a new password


def test_a_password_link_works_once_for_its_time(desk, office, accounts):
    ann, by = office.labeler(), office.owner.id
    old = accounts.password_link(ann.id, by, desk.now)
    token = accounts.password_link(ann.id, by, desk.now, hours=1)
    assert [accounts.find_password_link(one, desk.now) for one in (old, token)] == [None, ann]
    assert accounts.find_password_link(token, desk.later(HOUR)) is None
    session, _ = accounts.open_session(ann.id, "agent", desk.now)
    made, refused = outcomes(6, lambda i: accounts.use_password_link(token, f"hash {i}", desk.now))
    assert (made, len(refused)) == ([ann], 5)
    assert accounts.password_hash(ann.id) != "hash of Ann"
    assert accounts.find_session(session, "agent", desk.now) is None
    assert accounts.find_password_link(token, desk.now) is None
    again = accounts.password_link(ann.id, by, desk.now)
    accounts.set_state(ann.id, "paused", by, desk.now)
    accounts.set_state(ann.id, "active", by, desk.now)
    with pytest.raises(ValueError, match="not valid"):
        accounts.use_password_link(again, "hash", desk.now)


# Consent, profile, audit


def test_consent_is_to_the_newest_text(desk, office, accounts):
    ann = office.labeler()
    assert (accounts.consent_text().version, accounts.agreed_version(ann.id)) == (1, 0)
    accounts.agree(ann.id, 1, desk.now)
    accounts.agree(ann.id, 1, desk.now)
    assert accounts.set_consent("New terms", office.owner.id, desk.now) == 2
    assert (accounts.consent_text().markdown, accounts.agreed_version(ann.id)) == ("New terms", 1)
    with pytest.raises(ValueError, match="version 1 is not the newest one, 2"):
        accounts.agree(ann.id, 1, desk.now)
    accounts.agree(ann.id, 2, desk.now)
    assert accounts.agreed_version(ann.id) == 2


def test_a_profile_is_kept_and_checked(desk, office, accounts):
    ann = office.labeler()
    accounts.set_profile(ann.id, ["pt-BR", "ar", "ar"], " law ", {"work": {"keys": {"j": "k"}}})
    found = accounts.account(ann.id)
    assert (found.languages, found.topics, found.preferences) == (
        ("pt-BR", "ar"),
        "law",
        {"work": {"keys": {"j": "k"}}},
    )
    for values in ((["x y"], "", {}), ([], "a\x00b", {}), ([], "x" * 4001, {}), ([], "", {"a": "x" * 20_001})):
        with pytest.raises(ValueError, match=r"languages|topics|preferences"):
            accounts.set_profile(ann.id, *values)


def test_what_is_done_to_others_is_in_the_audit_log_without_names(desk, office, accounts):
    ann, by = office.labeler(), office.owner.id
    accounts.set_role(ann.id, "researcher", by, desk.later(5))
    (event,) = desk.store.audit.events(action="account.role")
    assert (event.at, event.actor, event.object_id) == (desk.later(5), by, ann.id)
    assert event.details == {"role": ["labeler", "researcher"]}
    assert event.before_hash != event.after_hash
    every = desk.store.audit.events()
    assert [one.id for one in every] == sorted((one.id for one in every), reverse=True)
    assert desk.store.audit.events(limit=2, before=every[1].id) == every[2:4]
    assert {one.action for one in desk.store.audit.events(action="invite")} == {"invite.create"}
    assert not re.search("(?i)ann|olga|example", repr([(one.details, one.action) for one in every]))
    with pytest.raises(ValueError, match="time zone"):
        accounts.invite("labeler", "train", "", by, datetime(2026, 3, 1))
