"""The app over a temporary store, a clock that tests set, and browsers signed in with each role."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.testclient import TestClient

from instructloop.core.records import Cohort
from instructloop.store import Store
from instructloop.store.people import Account, Role
from instructloop.web.app import create_app
from instructloop.web.passwords import Passwords
from instructloop.web.sessions import digest
from instructloop.web.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "five blue herons"
AGENT = "a browser of the tests"
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # the real one takes 0.2 s and 64 MiB a time
PASSWORD_HASH = HASHER.hash(PASSWORD)


@dataclass
class TestClock:
    """A clock that stands still until a test moves it."""

    __test__ = False
    time: datetime = NOON

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float = 0, **more: float) -> None:
        self.time += timedelta(seconds=seconds, **more)


class Browser(TestClient):
    """A client that behaves like a browser: keeps cookies, names its origin; follows redirects only when asked."""

    __test__ = False
    account: Account

    def __init__(self, app: FastAPI, **more: Any) -> None:
        settings: Settings = app.state.settings
        self.origin = settings.origin
        super().__init__(app, base_url=settings.origin, follow_redirects=False, **more)
        self.headers["User-Agent"] = AGENT

    @property
    def csrf(self) -> str:
        """The token as pages have it: of the session, of a stranger's cookie where nobody is signed in."""
        page = self.get("/profile" if self.cookies.get(self.session_cookie) else "/sign-in")
        found = re.search(r'name="csrf-token" content="([^"]+)"', page.text)
        assert found, page.text
        return found[1]

    @property
    def session_cookie(self) -> str:
        return self.app.state.settings.cookie("session")  # type: ignore[attr-defined]

    def send_form(self, path: str, **fields: Any) -> Any:
        """Post a form as a page of the app does: same origin, with the token."""
        headers = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        return self.post(path, data={"csrf": self.csrf} | fields, headers=headers)

    def send_json(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the JSON API as a page of the app does."""
        headers = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": self.csrf}
        return self.request(method, path, json=body, headers=headers | {"Accept": "application/json"})


@pytest.fixture(scope="session")
def empty_people_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a migrated store with nobody in it, to copy."""
    path = tmp_path_factory.mktemp("people") / "store.sqlite"
    Store.open(path).close()
    return path


@pytest.fixture
def store(tmp_path: Path, empty_people_store: Path) -> Iterator[Store]:
    with Store.open(shutil.copy(empty_people_store, tmp_path / "store.sqlite")) as opened:
        yield opened


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def app(store: Store, settings: Settings, clock: TestClock, tmp_path: Path) -> FastAPI:
    return create_app(store, settings, folder=tmp_path, clock=clock, passwords=Passwords(HASHER))


@pytest.fixture
def visitor(app: FastAPI) -> Browser:
    """Somebody who is not signed in."""
    return Browser(app)


@pytest.fixture
def new_account(store: Store, clock: TestClock) -> Callable[..., Account]:
    """Make an account of a role, invited and signed up as people are; its password is `PASSWORD`."""

    def make(role: Role, cohort: Cohort | None = None, name: str = "") -> Account:
        if cohort is None:
            cohort = {"labeler": "train", "researcher": "researcher"}.get(role)  # type: ignore[assignment]
        name = name or f"{role} {len(store.accounts.accounts())}"
        _, token = store.accounts.invite(role, cohort, "", None, clock())
        email = f"{name.lower().replace(' ', '.')}@example.org"
        account = store.accounts.sign_up(token, name, email, PASSWORD_HASH, clock())
        if role == "labeler":
            store.accounts.agree(account.id, store.accounts.consent_text().version, clock())
        return account

    return make


@pytest.fixture
def client_of(app: FastAPI, store: Store, clock: TestClock, new_account: Callable[..., Account]):
    """Make an account and return a browser that is signed in with it: client_of("labeler", "heldout", "Ann")."""

    def make(role: Role, cohort: Cohort | None = None, name: str = "") -> Browser:
        browser = Browser(app)
        browser.account = new_account(role, cohort, name)
        token, _ = store.accounts.open_session(browser.account.id, digest(AGENT), clock())
        browser.cookies.set(browser.session_cookie, token, domain="127.0.0.1")
        return browser

    return make


@pytest.fixture
def owner(client_of: Callable[..., Browser]) -> Browser:
    return client_of("owner", None, "Olga Owner")


@pytest.fixture
def researcher(client_of: Callable[..., Browser]) -> Browser:
    return client_of("researcher", None, "Rita Researcher")


@pytest.fixture
def labeler(client_of: Callable[..., Browser]) -> Browser:
    return client_of("labeler", "train", "Lea Labeler")


@pytest.fixture
def auditor(client_of: Callable[..., Browser]) -> Browser:
    return client_of("auditor", None, "Aron Auditor")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The app loads no torch, so its tests need not either."""
