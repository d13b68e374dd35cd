"""What every answer carries, whoever asks for whatever; and that no template needs more than the policy allows."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

import instructloop.web
from instructloop.store import Store
from instructloop.web.app import create_app
from instructloop.web.passwords import Passwords
from instructloop.web.settings import Settings
from tests.web.conftest import HASHER, Browser, TestClock

WEB = Path(instructloop.web.__file__).parent
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
FIXED = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
}


def assert_safe(answer) -> None:
    for name, value in FIXED.items():
        assert answer.headers.get(name) == value, (answer.status_code, name)
    assert "camera=()" in answer.headers["permissions-policy"]
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "server" not in answer.headers


def break_store(app: FastAPI, error: Exception) -> None:
    def fail(store: object) -> None:
        raise error

    app.state.store = type("Broken", (), {"accounts": property(fail)})()


def test_every_answer_has_the_security_headers(visitor: Browser, labeler: Browser):
    same = {"Sec-Fetch-Site": "same-origin"}
    answers = {
        200: labeler.get("/"),
        303: visitor.get("/"),
        400: visitor.get("/", headers={"Host": "evil.example"}),
        403: labeler.post("/profile", headers=same),
        404: labeler.get("/nothing"),
        405: labeler.request("DELETE", "/profile", headers=same | {"X-CSRF-Token": labeler.csrf}),
        410: visitor.get("/invitation/nothing"),
        413: visitor.post("/sign-in", content=b"x" * 100_000, headers=same),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert_safe(answer)
        assert answer.headers["cache-control"] == "no-store"
    assert_safe(visitor.get("/static/app.css"))
    assert_safe(visitor.get("/static/nothing.css"))


def test_a_fault_of_ours_is_a_page_with_headers_and_no_traceback(app: FastAPI, labeler: Browser):
    break_store(app, ZeroDivisionError("the secret of line 42"))
    answer = Browser(app, raise_server_exceptions=False, cookies=labeler.cookies).get("/")
    assert answer.status_code == 500
    assert_safe(answer)
    assert "ZeroDivisionError" not in answer.text
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.text


def test_a_store_that_cannot_be_read_is_said_to_be_for_the_moment(app: FastAPI, labeler: Browser):
    break_store(app, OSError(28, "disk is full", "/home/secret/store.sqlite"))
    answer = Browser(app, raise_server_exceptions=False, cookies=labeler.cookies).get(
        "/", headers={"Accept": "application/json"}
    )
    assert answer.status_code == 503
    assert answer.json() == {"error": "The store cannot be written at the moment. What you saved before is kept."}
    assert_safe(answer)


def test_tls_in_front_adds_strict_transport(store: Store, clock: TestClock):
    assert "strict-transport-security" not in Browser(create_app(store, clock=clock)).get("/sign-in").headers
    settings = Settings(behind_tls=True, url="https://labels.example.org")
    secure = Browser(create_app(store, settings, clock=clock, passwords=Passwords(HASHER)))
    assert secure.get("/sign-in").headers["strict-transport-security"] == "max-age=31536000"


def test_a_file_with_its_hash_in_the_address_is_kept_for_good(visitor: Browser):
    page = visitor.get("/sign-in").text
    address = re.search(r'href="(/static/app\.css\?v=[0-9a-f]{12})"', page)
    assert address
    assert visitor.get(address[1]).headers["cache-control"] == "public, max-age=31536000, immutable"
    assert visitor.get("/static/app.css").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(WEB / "templates")))
def test_no_template_has_a_script_or_a_style_of_its_own(path: Path):
    """The policy would not run them, and a policy that did would run those of an attacker too."""
    text = path.read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style\b", text) == []
    assert re.findall(r"\sstyle\s*=", text) == []
    assert re.findall(r"\son[a-z]+\s*=\s*[\"']", text) == []
    assert re.findall(r"[\"']\s*javascript:", text, re.IGNORECASE) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(WEB / "templates")))
def test_no_template_switches_escaping_off_or_loads_from_elsewhere(path: Path):
    text = path.read_text()
    assert re.findall(r"\|\s*safe\b|autoescape\s+false|Markup", text) == []
    assert re.findall(r"(?:src|href|action)\s*=\s*[\"'](?:https?:)?//", text) == []


def test_no_static_file_loads_from_elsewhere():
    for path in (WEB / "static").rglob("*"):
        if path.suffix in (".css", ".js", ".svg"):
            text = path.read_text().replace("http://www.w3.org/", "")
            assert not re.search(
                r"url\(\s*[\"']?(?:https?:)?//|@import|import\s[^;]*https?://|fetch\(\s*[\"']http", text
            ), path


def test_every_form_that_posts_has_the_token():
    for path in TEMPLATES:
        for form in re.findall(r"<form\b.*?</form>", path.read_text(), re.DOTALL):
            if re.search(r'method="post"', form):
                assert re.search(r'csrf_field\(\)|name="csrf"', form), (path.name, form[:100])
