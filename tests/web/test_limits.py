"""What is refused at the door: foreign hosts, large bodies, proxies that nobody trusts."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from instructloop.store import Store
from instructloop.web.app import create_app
from instructloop.web.passwords import Passwords
from instructloop.web.settings import Settings
from tests.web.conftest import HASHER, Browser, TestClock

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:9999", "127.0.0.1:8800.evil.example", "", "localhost:8800@evil"]
)
def test_a_foreign_host_is_refused(visitor: Browser, host: str):
    answer = visitor.get("/sign-in", headers={"Host": host})
    assert answer.status_code == 400
    assert "not the address" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8800", "localhost:8800", "LocalHost:8800", "[::1]:8800"])
def test_the_names_of_this_machine_are_ours(visitor: Browser, host: str):
    assert visitor.get("/sign-in", headers={"Host": host}).status_code == 200


def test_behind_tls_only_the_public_name_is_ours(store: Store, clock: TestClock):
    settings = Settings(behind_tls=True, url="https://labels.example.org")
    browser = Browser(create_app(store, settings, clock=clock, passwords=Passwords(HASHER)))
    assert browser.get("/sign-in", headers={"Host": "labels.example.org"}).status_code == 200
    assert browser.get("/sign-in", headers={"Host": "127.0.0.1:8800"}).status_code == 400


def test_a_stranger_may_send_little(visitor: Browser):
    """64 KiB: enough for any form of a stranger, too little to fill the memory with."""
    assert visitor.post("/sign-in", content=b"x" * (64 * 1024 + 1), headers=SAME).status_code == 413
    assert visitor.post("/sign-in", content=b"x" * (64 * 1024), headers=SAME).status_code == 403  # no token in it


def test_a_body_whose_length_is_not_announced_is_counted(visitor: Browser):
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1024

    form = SAME | {"Content-Type": "application/x-www-form-urlencoded"}
    answer = visitor.post("/sign-in", content=pieces(), headers=form)
    assert "content-length" not in answer.request.headers
    assert answer.status_code == 413


def test_a_body_that_is_counted_inside_a_handler_is_refused_too(store: Store, clock: TestClock, labeler: Browser):
    """With the token in a header nobody reads the body before the handler does."""
    headers = SAME | {"X-CSRF-Token": labeler.csrf, "Content-Type": "application/x-www-form-urlencoded"}
    answer = labeler.post("/profile", content=iter([b"topics="] + [b"x" * 65536] * 70), headers=headers)
    assert answer.status_code == 413


def test_who_is_signed_in_may_send_as_much_as_is_set(app: FastAPI, labeler: Browser):
    headers = SAME | {"X-CSRF-Token": labeler.csrf}
    assert labeler.post("/nothing", content=b"x" * (4 * 1024 * 1024), headers=headers).status_code == 404
    assert labeler.post("/nothing", content=b"x" * (4 * 1024 * 1024 + 1), headers=headers).status_code == 413


@pytest.mark.parametrize("length", ["-1", "many", "1e3", "٣"])
def test_a_length_that_is_no_number_is_refused(visitor: Browser, length: str):
    headers = SAME | {"Content-Length": length.encode()}
    assert visitor.post("/sign-in", content=b"", headers=headers).status_code in (400, 413)


def failures_after(store: Store, settings: Settings, clock: TestClock, headers: dict[str, str]) -> dict[str, float]:
    """Return the wait of each address after two dozen wrong passwords for as many accounts, sent through a proxy."""
    from instructloop.store.sessions import guess_key

    browser = Browser(create_app(store, settings, clock=clock, passwords=Passwords(HASHER)), client=("10.0.0.9", 5000))
    browser.headers.update(headers)
    for number in range(24):
        browser.send_form("/sign-in", email=f"{number}@example.org", password="a wrong password")
    addresses = ("10.0.0.9", "203.0.113.7", "198.51.100.1")
    return {address: store.accounts.failures(guess_key("address", address), clock()) for address in addresses}


def test_an_address_is_believed_from_a_trusted_proxy_only(store: Store, clock: TestClock):
    """The chain is read from its end: what the client itself wrote in front counts for nothing."""
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
    nobody = failures_after(store, Settings(), clock, forwarded)
    assert nobody["10.0.0.9"] > 0
    assert nobody["203.0.113.7"] == nobody["198.51.100.1"] == 0
    trusted = failures_after(store, Settings(trusted_proxies=("10.0.0.0/8",)), clock, forwarded)
    assert trusted["203.0.113.7"] > 0
    assert trusted["198.51.100.1"] == 0
