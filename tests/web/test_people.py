"""Invitations, roles, pause and removal: posted as forms, then looked up in the store."""

import re

import pytest


def invite(client, **fields):
    return client.send_form("/people/invite", **({"role": "labeler", "cohort": "screening"} | fields))


def open_invites(store, clock):
    return [one for one in store.accounts.invites() if one.state(clock()) == "open"]


def test_an_invitation_shows_its_link_once_and_the_link_works(owner, store, clock):
    page = invite(owner, cohort="heldout", note="agency B", days="7")
    assert page.status_code == 200
    token = re.search(r'value="http://[^"]+/invitation/([^"]+)"', page.text)[1]
    found = store.accounts.find_invite(token, clock())
    assert (found.role, found.cohort, found.note) == ("labeler", "heldout", "agency B")
    assert (found.expires_at - clock()).days == 7
    assert found.created_by == owner.account.id
    listed = owner.get("/people")
    assert "agency B" in listed.text
    assert token not in listed.text
    assert token not in owner.get("/audit").text


@pytest.mark.parametrize("role", ["owner", "researcher", "auditor"])
def test_only_the_owner_invites_others_than_labelers(owner, researcher, store, clock, role):
    assert invite(researcher, role=role).status_code == 403
    assert open_invites(store, clock) == []
    assert invite(owner, role=role).status_code == 200
    assert [one.role for one in open_invites(store, clock)] == [role]


def test_a_researcher_invites_labelers_of_every_cohort_that_labels(researcher, store, clock):
    for cohort in ("screening", "train", "heldout"):
        assert invite(researcher, cohort=cohort).status_code == 200
    assert {one.cohort for one in open_invites(store, clock)} == {"screening", "train", "heldout"}
    assert invite(researcher, cohort="researcher").status_code == 400
    assert invite(researcher, cohort="").status_code == 400
    assert len(open_invites(store, clock)) == 3


def test_an_invitation_that_was_taken_back_opens_nothing(researcher, store, clock):
    invite(researcher)
    (one,) = open_invites(store, clock)
    assert researcher.send_form(f"/people/invitations/{one.id}/revoke").status_code == 303
    assert open_invites(store, clock) == []


def test_auditors_and_labelers_invite_nobody(auditor, labeler, store, clock):
    assert invite(auditor).status_code == 403
    assert invite(labeler).status_code == 403
    assert auditor.get("/people").status_code == 200
    assert "Invite somebody" not in auditor.get("/people").text
    assert labeler.get("/people").status_code == 403
    assert open_invites(store, clock) == []


def test_a_paused_labeler_is_out_at_once_and_comes_back(researcher, labeler, store):
    path = f"/people/{labeler.account.id}"
    assert labeler.get("/profile").status_code == 200
    assert researcher.send_form(f"{path}/state", state="paused").status_code == 303
    assert store.accounts.account(labeler.account.id).state == "paused"
    assert labeler.get("/work").status_code in (303, 403)
    assert researcher.send_form(f"{path}/state", state="active").status_code == 303
    assert store.accounts.account(labeler.account.id).state == "active"


def test_researchers_pause_no_researcher_and_no_owner(researcher, owner, client_of, store):
    colleague = client_of("researcher", None, "Rolf Researcher")
    for other in (owner, colleague, researcher):
        path = f"/people/{other.account.id}/state"
        assert researcher.send_form(path, state="paused").status_code == 403
        assert store.accounts.account(other.account.id).state == "active"
    assert owner.send_form(f"/people/{colleague.account.id}/state", state="paused").status_code == 303
    assert store.accounts.account(colleague.account.id).state == "paused"


def test_only_the_owner_changes_roles_and_not_their_own(owner, researcher, labeler, store):
    path = f"/people/{labeler.account.id}/role"
    assert researcher.send_form(path, role="owner").status_code == 403
    assert store.accounts.account(labeler.account.id).role == "labeler"
    assert owner.send_form(path, role="auditor").status_code == 303
    assert store.accounts.account(labeler.account.id).role == "auditor"
    assert owner.send_form(f"/people/{owner.account.id}/role", role="labeler").status_code == 400
    assert store.accounts.account(owner.account.id).role == "owner"


def test_removal_wants_the_address_typed_and_then_takes_the_name(owner, labeler, store):
    path = f"/people/{labeler.account.id}"
    assert "Nothing happens before you confirm" in owner.get(path).text
    wrong = owner.send_form(f"{path}/remove", how="pseudonymise", confirmed="yes")
    assert wrong.status_code == 400
    assert store.accounts.account(labeler.account.id).name == "Lea Labeler"
    right = owner.send_form(f"{path}/remove", how="pseudonymise", confirmed=labeler.account.email)
    assert right.status_code == 303
    after = store.accounts.account(labeler.account.id)
    assert (after.state, after.name, after.email) == ("removed", None, None)
    listed = owner.get("/people").text
    assert "Lea Labeler" not in listed
    assert labeler.account.email not in listed
    assert owner.get(path).status_code == 200


def test_only_the_owner_removes_people_and_never_themselves(owner, researcher, labeler, store):
    fields = {"how": "purge", "confirmed": labeler.account.email}
    assert researcher.send_form(f"/people/{labeler.account.id}/remove", **fields).status_code == 403
    assert "Remove this person" not in researcher.get(f"/people/{labeler.account.id}").text
    own = {"how": "pseudonymise", "confirmed": owner.account.email}
    assert owner.send_form(f"/people/{owner.account.id}/remove", **own).status_code == 400
    assert store.accounts.account(labeler.account.id).state == "active"
    assert store.accounts.account(owner.account.id).state == "active"


def test_unknown_people_are_not_found(owner):
    assert owner.get("/people/nobody").status_code == 404
    assert owner.send_form("/people/nobody/state", state="paused").status_code == 404
    assert owner.send_form("/people/nobody/remove", how="purge", confirmed="x").status_code == 404


def test_the_audit_log_says_who_and_what_and_goes_on_to_older_pages(owner, researcher, auditor, store):
    for _ in range(3):
        invite(researcher)
    page = auditor.get("/audit").text
    assert page.count("<bdi>Rita Researcher</bdi>") >= 3
    assert "invite.create" in page
    only = auditor.get("/audit?action=instruction").text
    assert "invite.create" not in only
    assert "No such event" in only
    made = [event.id for event in store.audit.events(action="invite") if event.actor == researcher.account.id]
    older = auditor.get(f"/audit?action=invite&before={made[0]}").text  # newest first
    assert older.count("<bdi>Rita Researcher</bdi>") == 2
    assert auditor.get("/audit?before=0").status_code == 400


def test_labelers_do_not_see_the_audit_log(labeler):
    assert labeler.get("/audit").status_code == 403
