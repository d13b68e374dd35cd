"""The button of the page of tasks over a real loop: what it says, the command does, on both databases."""

import re
import sys
import time
from pathlib import Path

import pytest

from instructloop.simulated.visitors import fill_in
from instructloop.web.browser import Browser, Page
from instructloop.web.loop import Loop
from instructloop.workspace import DATABASE, Workspace
from tests.simulated.served import serving
from tests.store.postgres import BACKENDS, postgres

__all__ = ["postgres"]
TASKS = "/research/tasks"
WAIT_SECONDS = 300


@pytest.fixture(params=BACKENDS)
def waiting(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A loop that waits for people in the app, with fewer demonstrations than there are prompts."""
    if request.param == "postgresql":
        monkeypatch.setenv(DATABASE, request.getfixturevalue("postgres").database())
    numbers = {"demonstrations": {"num_train": 7, "num_valid": 2}}
    return Workspace.create(tmp_path / "loop", "microworld", numbers, people="app")


def a_researcher(workspace: Workspace, url: str) -> Browser:
    _, token = workspace.store.accounts.invite("researcher", "researcher", "", None, workspace.now())
    browser = Browser(url)
    page = browser.get(f"/invitation/{token}")
    fill_in(browser, page, page.path, name="Rita", email="r@example.org", password="five blue herons")
    return browser


def looked(browser: Browser) -> Page:
    """Return the page of tasks when it has looked ahead, and nothing is at work any more."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (page := browser.get(TASKS)) and "data-waits" in page.text:
        assert time.monotonic() < deadline, page.text
        time.sleep(0.1)
    return page


def button(page: Page) -> str:
    return re.findall(r'<button class="button primary">(.*?)</button>', page.text)[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_makes_prompts_opens_tasks_and_is_blocked_then(waiting: Workspace):
    with serving(waiting, Loop(waiting.root, (sys.executable, "-m", "instructloop"))) as url:
        browser = a_researcher(waiting, url)
        page = looked(browser)
        assert button(page) == "Go on to the writing tasks of round 1"
        assert waiting.store.task_sets() == []
        browser.send(page, page.form(f"{TASKS}/next"))
        page = looked(browser)
        [opened] = waiting.store.task_sets()
        assert (opened.kind, opened.num_tasks) == ("demonstrate", 9)
        assert "9 judgements of demonstrations" in page.text
        assert "After them: the ranking tasks of rankings" in page.text
        assert "primary" not in page.text.partition('aria-labelledby="next"')[2].partition("</section>")[0]
        ends = waiting.store.audit.events(action="loop.end")
        assert [(one.object_id, one.details["state"]) for one in ends] == [("demonstrations", "done")]
