"""Labelling over HTTP: what is posted is what the store holds, whole and once, and nobody touches another's task."""

import json
import re
from typing import Any

import pytest
from sqlalchemy import text

from instructloop.core.records import FLAGS
from instructloop.store import Store
from instructloop.web.answers import tiers_of
from instructloop.web.work import FLAG_KEYS
from tests.web.desk_tasks import comparison_answer, open_comparison, open_demonstrations, submission


def rows(store: Store, query: str) -> list[Any]:
    with store._database.read.connect() as connection:
        return list(connection.execute(text(query)).all())


def claim(browser: Any, kind: str | None = None) -> dict[str, Any]:
    """Return the next assignment as the page's script gets it."""
    answer = browser.send_json("POST", "/api/next", {"kind": kind} if kind else {})
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(assignment: dict[str, Any]) -> list[str]:
    return [completion["id"] for completion in assignment["completions"]]


def post(browser: Any, assignment: dict[str, Any], action: str, body: Any = None) -> Any:
    return browser.send_json("POST", f"/api/assignments/{assignment['id']}/{action}", body)


def test_a_comparison_is_stored_as_it_was_answered(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    a, b, c, d = shown(assignment)
    flags = {key: dict.fromkeys(FLAGS, False) for key in (a, b, c, d)}
    flags[b]["harmful_advice"] = True
    flags[c]["satisfies_constraint"] = None
    answer = comparison_answer([a, b, c, d], [1, 3, 1, 4], flags=flags, ratings={a: 7, b: 2, c: 6, d: 1})
    answer["notes"] = {b: "  wrong country \n", c: " "}
    done = post(labeler, assignment, "submit", submission(answer))
    assert done.status_code == 200, done.text
    [row] = store.rankings(["ranking"], ["train"])
    assert done.json() == {"receipt": row.id, "next": "/work"}
    assert row.tiers == (tuple(sorted((a, c))), (b,), (d,))
    assert row.ratings == {a: 7, b: 2, c: 6, d: 1}
    assert [flag for flag, value in row.flags[b].items() if value] == ["harmful_advice"]
    assert row.flags[c]["satisfies_constraint"] is None
    assert row.flags[c]["hallucination"] is False
    assert row.notes == {b: "wrong country"}
    assert row.shown == (a, b, c, d)
    circumstances = rows(store, "SELECT * FROM circumstance")
    assert [tuple(row)[1:] for row in circumstances] == [("compare", 1, 31.5, 40.0)]


def test_what_cannot_be_rated_is_null_and_never_0(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    keys = shown(assignment)
    answer = comparison_answer(keys, [1, 2, 3, 4], ratings=dict.fromkeys(keys))
    assert post(labeler, assignment, "submit", submission(answer)).status_code == 200
    assert [row.rating for row in rows(store, "SELECT rating FROM rating")] == [None] * 4


def without(answer: dict[str, Any], field: str, *path: str) -> dict[str, Any]:
    """Return the answer with one value taken out."""
    inner = answer[field]
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return answer


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda answer, keys: without(answer, "ranks", keys[3]), "ranks"),
        (lambda answer, keys: without(answer, "ratings", keys[0]), "ratings"),
        (lambda answer, keys: without(answer, "flags", keys[1]), "flags"),
        (lambda answer, keys: without(answer, "flags", keys[1], "hallucination"), "flags"),
        (lambda answer, keys: answer | {"ranks": {}}, "ranks"),
        (lambda answer, keys: answer | {"ranks": answer["ranks"] | {"completion-0": 1}}, "ranks"),
        (lambda answer, keys: answer | {"ranks": answer["ranks"] | {keys[0]: 0}}, "ranks"),
        (lambda answer, keys: answer | {"ranks": answer["ranks"] | {keys[0]: "1"}}, "ranks"),
        (lambda answer, keys: answer | {"ranks": answer["ranks"] | {keys[0]: None}}, "ranks"),
        (lambda answer, keys: answer | {"ratings": answer["ratings"] | {keys[0]: 0}}, "ratings"),
        (lambda answer, keys: answer | {"ratings": answer["ratings"] | {keys[0]: 8}}, "ratings"),
        (lambda answer, keys: answer | {"ratings": answer["ratings"] | {keys[0]: True}}, "ratings"),
        (lambda answer, keys: answer | {"flags": answer["flags"] | {keys[0]: {"rude": False}}}, "flags"),
        (lambda answer, keys: answer | {"notes": {"completion-0": "who?"}}, "notes"),
        (lambda answer, keys: answer | {"tiers": [[key] for key in keys]}, "tiers"),
    ],
)
def test_an_answer_that_is_not_whole_is_refused_and_nothing_is_stored(store, labeler, change, field):
    open_comparison(store)
    assignment = claim(labeler)
    keys = shown(assignment)
    answer = change(comparison_answer(keys, [1, 2, 3, 4]), keys)
    refused = post(labeler, assignment, "submit", submission(answer))
    assert refused.status_code == 400
    assert refused.json()["field"].startswith(field)
    assert rows(store, "SELECT id FROM submission") == []
    assert rows(store, "SELECT state FROM assignment")[0].state == "leased"


def test_a_flag_that_always_applies_cannot_be_waved_away(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    answer = comparison_answer(shown(assignment), [1, 2, 3, 4])
    answer["flags"][shown(assignment)[0]]["sexual_content"] = None
    assert post(labeler, assignment, "submit", submission(answer)).status_code == 400
    assert rows(store, "SELECT id FROM submission") == []


def test_the_order_in_which_completions_stand_is_never_a_ranking(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    page = labeler.get(f"/work/{assignment['id']}").text
    ranks = re.findall(r'name="rank-(\w)" value="(\d*)"[^>]*?( checked)?>', page)
    assert {letter for letter, _, _ in ranks} == set("ABCD")
    assert [(letter, value) for letter, value, is_checked in ranks if is_checked] == [(k, "") for k in "ABCD"]
    assert not re.search(r'name="(rating|flag)-[^>]* checked', page)


@pytest.mark.parametrize(
    ("ranks", "tiers"),
    [
        ({"a": 1, "b": 2, "c": 3}, (("a",), ("b",), ("c",))),
        ({"a": 2, "b": 2, "c": 1}, (("c",), ("a", "b"))),
        ({"a": 1, "b": 1, "c": 3}, (("a", "b"), ("c",))),  # competition ranks
        ({"a": 1, "b": 1, "c": 2}, (("a", "b"), ("c",))),  # dense ranks
        ({"a": 9, "b": 9, "c": 9}, (("a", "b", "c"),)),
    ],
)
def test_only_the_order_of_ranks_counts(ranks, tiers):
    assert tiers_of(ranks) == tiers


def test_the_same_submission_twice_is_one_with_one_receipt(store, labeler):
    open_comparison(store)
    assignment = claim(labeler)
    body = submission(comparison_answer(shown(assignment), [1, 2, 3, 4]))
    receipts = [post(labeler, assignment, "submit", body).json()["receipt"] for _ in range(3)]
    assert len(set(receipts)) == 1
    assert len(rows(store, "SELECT id FROM submission")) == 1


@pytest.mark.parametrize("key", ["key-of-one-answer", "key-of-another-answer"])
def test_a_second_answer_does_not_replace_the_first(store, labeler, key):
    open_comparison(store)
    assignment = claim(labeler)
    a, b, c, d = shown(assignment)
    post(labeler, assignment, "submit", submission(comparison_answer([a, b, c, d], [1, 2, 3, 4])))
    second = post(labeler, assignment, "submit", submission(comparison_answer([a, b, c, d], [4, 3, 2, 1]), key))
    assert second.status_code == 409
    [row] = store.rankings(["ranking"], ["train"])
    assert row.tiers == ((a,), (b,), (c,), (d,))


def test_a_correction_is_a_new_revision_and_the_first_answer_stays(store, labeler):
    open_demonstrations(store)
    assignment = claim(labeler)
    post(labeler, assignment, "submit", submission({"text": "It rains.\nIt pours."}))
    page = labeler.get(f"/work/{assignment['id']}").text
    assert "Save correction" in page
    assert "It rains." in page
    done = post(labeler, assignment, "revise", submission({"text": "It rains."}, "key-of-a-correction"))
    assert done.status_code == 200
    [row] = store.demonstrations(["writing"], ["train"])
    assert row.text == "It rains."
    assert sorted(row.text for row in rows(store, "SELECT text FROM demonstration")) == [
        "It rains.",
        "It rains.\nIt pours.",
    ]


@pytest.mark.parametrize("answer", [{"text": " \n "}, {}, {"text": 3}, {"text": "x\x00"}, {"text": "x", "rating": 7}])
def test_a_demonstration_needs_text(store, labeler, answer):
    open_demonstrations(store)
    assignment = claim(labeler)
    assert post(labeler, assignment, "submit", submission(answer)).status_code == 400
    assert rows(store, "SELECT id FROM submission") == []


@pytest.mark.parametrize(
    "change",
    [
        {"active_seconds": -1},
        {"active_seconds": "NaN"},
        {"wall_seconds": 1e400},
        {"idempotency_key": ""},
        {"instruction_version": 99},
        {"answer": []},
        {"extra": 1},
    ],
)
def test_times_keys_and_versions_are_checked(store, labeler, change):
    open_demonstrations(store)
    assignment = claim(labeler)
    body = submission({"text": "rain"}) | change
    headers = {"Origin": labeler.origin, "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": labeler.csrf}
    content = json.dumps(body).replace('"NaN"', "NaN")
    path = f"/api/assignments/{assignment['id']}/submit"
    answer = labeler.post(path, content=content, headers=headers | {"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert rows(store, "SELECT id FROM submission") == []


def test_what_is_said_of_the_prompt_is_stored_beside_and_only_when_something_is_said(store, labeler):
    prompts = open_demonstrations(store, 2)
    said = {"category": "generation", "fields": {"ambiguous": True, "closed_domain": False, "intent_unclear": None}}
    first = claim(labeler)
    post(labeler, first, "submit", submission({"text": "rain", "annotation": said}))
    second = claim(labeler)
    empty = {"category": None, "fields": {"ambiguous": None}}
    post(labeler, second, "submit", submission({"text": "rain", "annotation": empty}))
    [found] = rows(store, "SELECT prompt_id, labeler_id, category FROM annotation")
    assert tuple(found) == (prompts[0].id, labeler.account.labeler_id, "generation")
    [kept] = store.desk.annotations(prompts[0].id)
    answered = {name: value for name, value in kept.fields.items() if value is not None}
    assert answered == {"ambiguous": True, "closed_domain": False}


def test_a_wrong_annotation_is_refused_before_anything_is_stored(store, labeler):
    open_demonstrations(store)
    answer = {"text": "rain", "annotation": {"fields": {"boring": True}}}
    assert post(labeler, claim(labeler), "submit", submission(answer)).status_code == 400
    assert rows(store, "SELECT id FROM submission") == []


def test_skipping_needs_a_reason_and_the_task_does_not_come_back(store, labeler):
    open_demonstrations(store, 2)
    assignment = claim(labeler)
    assert post(labeler, assignment, "skip", {"reason": "  "}).status_code == 400
    assert post(labeler, assignment, "skip", {"reason": "It is too unclear"}).status_code == 200
    assert store.progress("writing").reasons == {"It is too unclear": 1}
    assert claim(labeler)["id"] != assignment["id"]
    assert "It is too unclear" in labeler.get(f"/work/{assignment['id']}").text


def test_next_is_the_task_in_hand_then_another_then_none(store, labeler):
    open_demonstrations(store)
    open_comparison(store)
    first = claim(labeler, "demonstrate")
    assert claim(labeler, "demonstrate") == first
    leads = labeler.get("/work?kind=demonstrate")
    assert (leads.status_code, leads.headers["location"]) == (303, f"/work/{first['id']}")
    post(labeler, first, "submit", submission({"text": "rain"}))
    assert labeler.send_json("POST", "/api/next", {"kind": "demonstrate"}).status_code == 204
    assert "Nothing is waiting" in labeler.get("/work?kind=demonstrate").text
    assert claim(labeler)["kind"] == "compare"
    assert labeler.send_json("POST", "/api/next", {"kind": "dance"}).status_code == 400


def test_a_labeler_learns_neither_policy_nor_task_set(store, labeler):
    open_comparison(store, task_set="a-secret-set")
    assignment = claim(labeler)
    page = labeler.get(f"/work/{assignment['id']}").text
    both = page + labeler.get(f"/api/assignments/{assignment['id']}").text
    assert "Paris." in both
    assert "policy-" not in both
    assert "a-secret-set" not in both
    assert "task_set" not in both


HOSTILE = "<script>alert(1)</script> ![x](http://evil.example/x.png) [y](javascript:alert(2)) \" onload='z' </textarea>"


def test_hostile_text_is_text_in_prompt_completion_note_and_draft(store, labeler):
    open_comparison(store, prompt=HOSTILE, texts=(HOSTILE, HOSTILE + "2"))
    assignment = claim(labeler)
    body = {"rev": 1, "body": {"notes": {shown(assignment)[0]: HOSTILE}}}
    assert labeler.send_json("PUT", f"/api/assignments/{assignment['id']}/draft", body).status_code == 200
    page = labeler.get(f"/work/{assignment['id']}").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert "evil.example/x.png" in page  # as words: labelers see that there was an image
    assert "<img" not in page
    assert 'href="javascript' not in page
    assert "' onload" not in page.replace("&#39; onload", "")


def test_each_flag_has_a_key_of_its_own_that_no_command_of_the_page_has():
    assert set(FLAG_KEYS) == set(FLAGS)
    assert len(set(FLAG_KEYS.values())) == 11
    assert not set(FLAG_KEYS.values()) & set("jkaxnrwltudb?0123456789")


def test_the_help_page_explains_every_flag(labeler):
    page = labeler.get("/help")
    assert page.status_code == 200
    assert [flag for flag in FLAGS if f'id="flag-{flag}"' not in page.text] == []
