"""Drafts and leases over HTTP: what was typed survives, a stale tab overwrites nothing, a late answer is kept."""

import json

import pytest

from tests.web.desk_tasks import comparison_answer, open_comparison, open_demonstrations, submission
from tests.web.test_work import claim, post, rows, shown


def save(browser, assignment, rev, **body):
    return browser.send_json("PUT", f"/api/assignments/{assignment['id']}/draft", {"rev": rev, "body": body})


def test_a_draft_comes_back_as_it_was(store, labeler, clock):
    open_demonstrations(store)
    assignment = claim(labeler)
    assert assignment["draft"] is None
    body = {"text": "Regen مطر \U0001f327\n", "tab": "one", "ratings": {}}
    saved = save(labeler, assignment, 1, **body)
    assert saved.json()["rev"] == 1
    assert saved.json()["saved_at"] == clock().isoformat()
    again = labeler.get(f"/api/assignments/{assignment['id']}").json()
    assert (again["draft"]["rev"], again["draft"]["body"]) == (1, body)
    assert claim(labeler)["draft"]["body"] == body


def test_a_stale_tab_is_told_and_overwrites_nothing(store, labeler):
    open_demonstrations(store)
    assignment = claim(labeler)
    assert save(labeler, assignment, 1, text="one").status_code == 200
    assert save(labeler, assignment, 5, text="two").status_code == 200
    for rev in (1, 4, 5):
        stale = save(labeler, assignment, rev, text="three")
        assert stale.status_code == 409
        assert stale.json()["rev"] == 5
        assert "tab" in stale.json()["error"]
    assert [json.loads(row.body)["text"] for row in rows(store, "SELECT body FROM draft")] == ["two"]


def test_a_beacon_has_its_token_in_the_body(store, labeler):
    open_demonstrations(store)
    assignment = claim(labeler)
    headers = {"Origin": labeler.origin, "Sec-Fetch-Site": "same-origin"}
    path = f"/api/assignments/{assignment['id']}/draft"
    body = {"rev": 1, "body": {"text": "left"}}
    assert labeler.post(path, json=body, headers=headers).status_code == 403
    assert labeler.post(path, json=body | {"csrf": labeler.csrf}, headers=headers).status_code == 200
    assert [json.loads(row.body) for row in rows(store, "SELECT body FROM draft")] == [{"text": "left"}]


@pytest.mark.parametrize(
    "body", [{"rev": 0, "body": {}}, {"rev": 1}, {"rev": "1", "body": []}, {"rev": 1, "body": {"x": "\x00"}}]
)
def test_a_draft_that_is_none_is_refused(store, labeler, body):
    open_demonstrations(store)
    assignment = claim(labeler)
    assert labeler.send_json("PUT", f"/api/assignments/{assignment['id']}/draft", body).status_code == 400
    assert rows(store, "SELECT * FROM draft") == []


def test_a_draft_is_no_answer_and_goes_when_there_is_one(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    save(labeler, assignment, 1, ranks={shown(assignment)[0]: 1})
    assert rows(store, "SELECT id FROM submission") == []
    post(labeler, assignment, "submit", submission(comparison_answer(shown(assignment), [1, 1, 1, 1])))
    assert rows(store, "SELECT * FROM draft") == []
    late = save(labeler, assignment, 2, ranks={})
    assert late.status_code == 410
    assert rows(store, "SELECT * FROM draft") == []


def test_saving_and_heartbeats_hold_the_lease(store, labeler, clock):
    open_demonstrations(store)
    assignment = claim(labeler)
    first = assignment["expires_at"]
    clock.forward(minutes=10)
    saved = save(labeler, assignment, 1, text="x").json()["expires_at"]
    clock.forward(minutes=10)
    beaten = post(labeler, assignment, "heartbeat").json()["expires_at"]
    assert first < saved < beaten


def test_who_comes_late_is_told_and_the_answer_is_kept_as_surplus(store, labeler, client_of, clock):
    open_demonstrations(store, overlap=1)
    assignment = claim(labeler)
    clock.forward(hours=1)
    other = client_of("labeler", "train", "Otto Other")
    assert claim(other)["prompt"] == assignment["prompt"]
    assert post(labeler, assignment, "heartbeat").status_code == 410
    draft = save(labeler, assignment, 1, text="late")
    assert (draft.status_code, draft.json()["expires_at"]) == (200, None)
    assert post(labeler, assignment, "submit", submission({"text": "late"})).status_code == 200
    assert store.progress("writing").num_surplus == 1
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["late"]


def test_another_labelers_task_does_not_exist(store, labeler, client_of):
    open_demonstrations(store, overlap=1)
    assignment = claim(labeler)
    save(labeler, assignment, 1, text="mine")
    other = client_of("labeler", "train", "Otto Other")
    place = f"/api/assignments/{assignment['id']}"
    attempts = [
        other.get(f"/work/{assignment['id']}"),
        other.get(place),
        other.send_json("PUT", f"{place}/draft", {"rev": 2, "body": {}}),
        other.send_json("POST", f"{place}/draft", {"rev": 2, "body": {}}),
        other.send_json("POST", f"{place}/heartbeat"),
        other.send_json("POST", f"{place}/submit", submission({"text": "theirs"})),
        other.send_json("POST", f"{place}/revise", submission({"text": "theirs"})),
        other.send_json("POST", f"{place}/skip", {"reason": "theirs"}),
    ]
    assert [answer.status_code for answer in attempts] == [404] * 8
    assert "lines about rain" not in "".join(answer.text for answer in attempts)
    assert [json.loads(row.body) for row in rows(store, "SELECT body FROM draft")] == [{"text": "mine"}]
    assert rows(store, "SELECT state FROM assignment")[0].state == "leased"
    assert rows(store, "SELECT id FROM submission") == []


def test_who_is_signed_out_is_told_so_and_stores_nothing(store, labeler, visitor):
    open_demonstrations(store)
    assignment = claim(labeler)
    answer = visitor.send_json("POST", f"/api/assignments/{assignment['id']}/submit", submission({"text": "x"}))
    assert answer.status_code == 401
    assert "signed out" in answer.json()["error"]
    assert rows(store, "SELECT id FROM submission") == []
