"""A link for a new password: it works once, for its account, for its time, and ends what was open."""

import re

import pytest
from fastapi import FastAPI

from instructloop.store import Store
from tests.web.conftest import PASSWORD, Browser, TestClock

NEW = "nine green frogs"


def sign_in(browser: Browser, password: str) -> int:
    return browser.send_form("/sign-in", email="lea.labeler@example.org", password=password).status_code


@pytest.fixture
def link(labeler: Browser, store: Store, clock: TestClock) -> str:
    return "/new-password/" + store.accounts.password_link(labeler.account.id, None, clock(), hours=48)


def test_a_link_sets_a_password_and_ends_all_sessions(app: FastAPI, labeler: Browser, link: str):
    fresh = Browser(app)
    assert "lea.labeler@example.org" in fresh.get(link).text
    answer = fresh.send_form(link, password=NEW)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert fresh.get("/profile").status_code == 200
    assert labeler.get("/profile").status_code == 303
    assert sign_in(Browser(app), PASSWORD) == 400
    assert sign_in(Browser(app), NEW) == 303


def test_a_link_works_once(app: FastAPI, link: str):
    assert Browser(app).send_form(link, password=NEW).status_code == 303
    assert Browser(app).get(link).status_code == 410
    assert Browser(app).send_form(link, password="another fine password").status_code == 410
    assert sign_in(Browser(app), NEW) == 303


def test_a_link_runs_out(visitor: Browser, link: str, clock: TestClock):
    clock.forward(hours=48, seconds=-1)
    assert visitor.get(link).status_code == 200
    clock.forward(seconds=1)
    assert visitor.get(link).status_code == 410
    assert visitor.send_form(link, password=NEW).status_code == 410
    assert sign_in(visitor, PASSWORD) == 303


def test_a_newer_link_replaces_the_older(visitor: Browser, labeler: Browser, link: str, store: Store, clock: TestClock):
    store.accounts.password_link(labeler.account.id, None, clock())
    assert visitor.get(link).status_code == 410


def test_a_weak_password_leaves_the_link(app: FastAPI, link: str):
    answer = Browser(app).send_form(link, password="short")
    assert answer.status_code == 400
    assert "at least 12 characters" in answer.text
    assert Browser(app).send_form(link, password=NEW).status_code == 303


def test_a_link_lets_nobody_into_a_paused_account(app: FastAPI, labeler: Browser, link: str, store: Store, clock):
    store.accounts.set_state(labeler.account.id, "paused", None, clock())
    assert Browser(app).send_form(link, password=NEW).status_code == 410
    assert sign_in(Browser(app), NEW) == 400


def test_somebody_who_was_slowed_down_gets_in_at_once(app: FastAPI, link: str):
    for number in range(7):
        sign_in(Browser(app), f"forgotten {number}")
    assert sign_in(Browser(app), PASSWORD) == 429
    Browser(app).send_form(link, password=NEW)
    assert sign_in(Browser(app), NEW) == 303


def test_a_link_is_shown_once_to_who_may_manage_the_account(app: FastAPI, researcher: Browser, labeler: Browser):
    page = f"/people/{labeler.account.id}"
    assert "Make a link for a new password" in researcher.get(page).text
    made = researcher.send_form(f"{page}/password-link")
    found = re.search(r'value="http://127.0.0.1:8800(/new-password/[\w-]+)"', made.text)
    assert found
    assert found[1] not in researcher.get(page).text
    assert Browser(app).send_form(found[1], password=NEW).status_code == 303
    assert sign_in(Browser(app), NEW) == 303


def test_nobody_makes_a_link_for_somebody_above_them(owner: Browser, researcher: Browser, labeler: Browser):
    """Else a researcher could become the owner."""
    assert researcher.send_form(f"/people/{owner.account.id}/password-link").status_code == 403
    assert labeler.send_form(f"/people/{owner.account.id}/password-link").status_code == 403
    assert owner.send_form(f"/people/{researcher.account.id}/password-link").status_code == 200
    assert owner.send_form("/people/nobody/password-link").status_code == 404


def test_a_link_that_nobody_made_opens_nothing(visitor: Browser):
    assert visitor.get("/new-password/" + "A" * 43).status_code == 410
    assert visitor.send_form("/new-password/" + "A" * 43, password=NEW).status_code == 410
