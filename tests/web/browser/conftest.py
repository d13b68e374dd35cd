"""A real browser on the running app: headless Chromium of the system, the server in a thread of the test."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from instructloop.core.records import Cohort
from instructloop.store import Store
from instructloop.store.people import Role
from instructloop.web.sessions import digest
from instructloop.web.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_SECONDS = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none."""
    reason = "no chromium on this machine" if CHROMIUM is None else None
    try:
        import playwright  # noqa: F401
    except ImportError:
        reason = "playwright is not installed"
    for item in items:
        if reason and "browser" in item.path.parts:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for one file of tests: while it runs, its event loop occupies the thread that other tests need."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def agent(chromium: Any) -> str:
    """The browser's own name; another one given to a context would not go with the beacons of a page that closes."""
    page = chromium.new_page()
    name = page.evaluate("navigator.userAgent")
    page.close()
    return name


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def settings(listener: socket.socket) -> Settings:
    return Settings(port=listener.getsockname()[1])


@pytest.fixture
def origin(app: FastAPI, settings: Settings, listener: socket.socket) -> Iterator[str]:
    """The address of the running app."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    yield settings.origin
    server.should_exit = True
    thread.join(PATIENCE_SECONDS)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What pages complained of; a test fails when there is anything in it at its end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def context_of(
    chromium: Any, origin: str, store: Store, settings: Settings, new_account: Callable[..., Any], clock: Any,
    errors: list[str], agent: str,
) -> Iterator[Callable[..., Any]]:  # fmt: skip
    """Make a browser context that is signed in: context_of("labeler", "train", "Lea"); its `.account` is theirs."""
    made = []

    def make(role: Role, cohort: Cohort | None = None, name: str = "", **options: Any) -> Any:
        account = new_account(role, cohort, name)
        consent = store.accounts.consent_text()
        store.accounts.agree(account.id, consent.version, clock())
        token, _ = store.accounts.open_session(account.id, digest(agent), clock())
        options = {"viewport": {"width": 1280, "height": 850}, "locale": "en-GB"} | options
        context = chromium.new_context(base_url=origin, **options)
        context.set_default_timeout(1000 * PATIENCE_SECONDS)
        context.add_cookies([{"name": settings.cookie("session"), "value": token, "url": origin}])
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.account = account
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def labeler_page(context_of: Callable[..., Any]) -> Any:
    """A page of a labeler of the training cohort."""
    return context_of("labeler", "train", "Lea Labeler").new_page()
