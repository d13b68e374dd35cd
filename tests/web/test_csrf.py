"""Nothing is changed by a request that did not come from a page of the app."""

import pytest
from fastapi import FastAPI

from instructloop.store import Store
from tests.web.conftest import PASSWORD, Browser

SAME = {"Sec-Fetch-Site": "same-origin"}


def languages(store: Store, browser: Browser) -> tuple[str, ...]:
    account = store.accounts.account(browser.account.id)
    assert account is not None
    return account.languages


def test_a_form_with_its_token_from_our_page_is_taken(labeler: Browser, store: Store):
    assert labeler.send_form("/profile", language="en").status_code == 303
    assert languages(store, labeler) == ("en",)


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_a_form_with_no_or_a_wrong_token_is_refused(labeler: Browser, store: Store, token: str):
    answer = labeler.post("/profile", data={"csrf": token, "language": "en"}, headers=SAME)
    assert answer.status_code == 403
    assert "Reload the page" in answer.text
    assert languages(store, labeler) == ()


def test_a_form_without_the_field_is_refused(labeler: Browser, store: Store):
    assert labeler.post("/profile", data={"language": "en"}, headers=SAME).status_code == 403
    assert languages(store, labeler) == ()


def test_the_token_of_another_session_is_refused(labeler: Browser, researcher: Browser, store: Store):
    answer = labeler.post("/profile", data={"csrf": researcher.csrf, "language": "en"}, headers=SAME)
    assert answer.status_code == 403
    assert languages(store, labeler) == ()


@pytest.mark.parametrize(
    "headers",
    [
        {},  # neither header: no browser of today, and no client of ours
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # a page on another sub-domain
        {"Origin": "https://evil.example"},
        {"Origin": "null"},  # a sandboxed frame, a data: page
        {"Origin": "http://127.0.0.1:9999"},  # another server on this machine
        {"Origin": "http://127.0.0.1:8800.evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8800"},
    ],
)
def test_a_request_that_does_not_come_from_our_origin_is_refused_even_with_the_token(
    labeler: Browser, store: Store, headers: dict[str, str]
):
    answer = labeler.post("/profile", data={"csrf": labeler.csrf, "language": "en"}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert languages(store, labeler) == ()


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8800"}]
)
def test_either_header_that_names_us_will_do(labeler: Browser, store: Store, headers: dict[str, str]):
    answer = labeler.post("/profile", data={"csrf": labeler.csrf, "language": "sw"}, headers=headers)
    assert answer.status_code == 303
    assert languages(store, labeler) == ("sw",)


def test_the_token_may_stand_in_a_header_or_in_json(labeler: Browser):
    """A path that does not exist: 404 says that the token was taken, 403 that it was not."""
    token = labeler.csrf
    assert labeler.post("/api/nothing", json={}, headers=SAME | {"X-CSRF-Token": token}).status_code == 404
    assert labeler.post("/api/nothing", json={"csrf": token}, headers=SAME).status_code == 404
    assert labeler.post("/api/nothing", json={"csrf": "x"}, headers=SAME).status_code == 403
    assert labeler.post("/api/nothing", json=[token], headers=SAME).status_code == 403
    broken = labeler.post("/api/nothing", content=b"{", headers=SAME | {"Content-Type": "application/json"})
    assert broken.status_code == 403
    assert broken.json()["error"].startswith("This form is too old")


def test_a_text_body_is_no_way_around_the_token(labeler: Browser):
    headers = SAME | {"Content-Type": "text/plain"}
    assert labeler.post("/profile", content=f"csrf={labeler.csrf}", headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_every_method_that_is_not_safe_is_checked(labeler: Browser, method: str):
    assert labeler.request(method, "/nothing", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_signing_in_needs_a_token_too(app: FastAPI, visitor: Browser, labeler: Browser):
    """Else another site could sign somebody in as its own user and read what they do there."""
    fields = {"email": labeler.account.email, "password": PASSWORD}
    assert visitor.post("/sign-in", data=fields, headers=SAME).status_code == 403
    stranger = Browser(app)
    assert visitor.post("/sign-in", data=fields | {"csrf": stranger.csrf}, headers=SAME).status_code == 403
    assert visitor.send_form("/sign-in", **fields).status_code == 303


def test_a_link_from_elsewhere_may_be_followed(labeler: Browser):
    assert labeler.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
