"""One button lets the loop go on to the next tasks: what it says, what it does, who may, what blocks it, its end."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instructloop import files
from instructloop.web.app import create_app
from instructloop.web.loop import Loop
from instructloop.web.passwords import Passwords
from tests.web.conftest import HASHER, Browser
from tests.web.desk_tasks import open_comparison, open_demonstrations
from tests.web.test_research import judge

COMMAND = """
import json, os, pathlib, sys, time
typed = sys.argv[1:]
folder = pathlib.Path(typed[typed.index("--dir") + 1])
with open(folder / "typed", "a") as log:
    log.write(" ".join(typed) + chr(10))
if typed[0] == "status":
    time.sleep(float(os.environ.get("LOOK_SECONDS", 0)))
    said = json.loads((folder / "ahead.json").read_text())
    sys.exit(said) if isinstance(said, str) else print(json.dumps({"steps": [], "ahead": said}))
else:
    print("samples: begins", flush=True)
    (folder / "began").touch()
    try:
        while not (folder / "end").exists():
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.exit(130)
    sys.exit(json.loads((folder / "end").read_text()))
"""
OPENING = {"step": "rankings", "kind": "compare", "cohort": "train", "num_tasks": 1412, "num_judgements": 2000}
AHEAD = {"round": 1, "opening": OPENING, "steps": [], "frozen": [], "waits_for": {}}
PAGE, NEXT, STOP = "/research/tasks", "/research/tasks/next", "/research/tasks/next/stop"


class Folder:
    """A workspace whose command is a script that says what a test wants and works until it is told to end."""

    def __init__(self, path: Path):
        self.path = path
        (path / "cache").mkdir()
        (path / "loop.yaml").write_text("recipe: microworld\n")
        (path / "command.py").write_text(COMMAND)
        self.says(AHEAD)
        self.loop = Loop(path, (sys.executable, "-I", str(path / "command.py")))

    def says(self, ahead: object) -> None:
        (self.path / "ahead.json").write_text(json.dumps(ahead))
        os.utime(self.path / "loop.yaml", ns=(0, time.monotonic_ns()))  # something has changed

    def end(self, code: int | str = 0) -> None:
        (self.path / "end.new").write_text(json.dumps(code))
        (self.path / "end.new").rename(self.path / "end")

    @property
    def typed(self) -> list[str]:
        lines = (self.path / "typed").read_text().splitlines() if (self.path / "typed").exists() else []
        return [line.removesuffix(f" --dir {self.path}") for line in lines if not line.startswith("status")]


def wait_for(holds) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "loop").mkdir()
    made = Folder(tmp_path / "loop")
    yield made
    made.end()
    wait_for(lambda: made.loop.going is None or made.loop.going.state != "running")


@pytest.fixture
def app(store, settings, clock, folder: Folder):
    return create_app(store, settings, folder=folder.path, loop=folder.loop, clock=clock, passwords=Passwords(HASHER))


def seen(browser: Browser) -> str:
    """Wait until the page has looked ahead and return it."""
    wait_for(lambda: browser.get(NEXT).json()["state"] != "looking")
    return browser.get(PAGE).text


def press(browser: Browser):
    """Press the button of the page as it is."""
    page = seen(browser)
    hidden = page.partition('name="seen" value="')[2].partition('"')[0]
    assert hidden, page
    return browser.send_form(NEXT, seen=hidden)


def events(store) -> list[tuple[str, str | None]]:
    return [(one.action, one.actor) for one in reversed(store.audit.events()) if one.action.startswith("loop.")]


def test_the_button_says_what_it_opens_does_it_and_the_log_keeps_who_and_how(researcher, store, folder):
    page = seen(researcher)
    assert "Open 1\N{NARROW NO-BREAK SPACE}412 ranking tasks of round 1" in page
    assert folder.typed == []
    assert press(researcher).headers["location"] == PAGE
    wait_for(lambda: folder.loop.lines() == ["samples: begins"])
    assert folder.typed == ["run --dir " + str(folder.path) + " --until rankings"]
    at_work = researcher.get(PAGE).text
    assert "Rita Researcher" in at_work
    assert "samples: begins" in at_work
    assert researcher.get(NEXT).json() == {"state": "running", "lines": ["samples: begins"]}
    folder.says(AHEAD | {"opening": None})
    folder.end()
    wait_for(lambda: researcher.get(NEXT).json()["state"] == "done")
    after = seen(researcher)
    assert "Every step of round 1 is done" in after
    assert "It went well" in after
    assert events(store) == [("loop.begin", researcher.account.id), ("loop.end", None)]
    [over] = store.audit.events(action="loop.end")
    assert (over.object_id, over.details) == ("rankings", {"state": "done", "code": 0, "seconds": 0})


def test_it_says_what_is_frozen_and_done_before_the_tasks_can_be_opened(researcher, folder):
    later = OPENING | {"num_tasks": None, "num_judgements": None}
    folder.says(AHEAD | {"opening": later, "steps": ["demonstrations", "sft", "samples"], "frozen": ["demonstrations"]})
    page = seen(researcher)
    assert "Go on to the ranking tasks of round 1" in page
    assert "It freezes the answers of <b>demonstrations</b>, then does <b>sft</b>, <b>samples</b>" in page


def test_at_the_last_step_it_goes_on_to_the_end(researcher, folder):
    folder.says(AHEAD | {"opening": None, "steps": ["eval_rankings", "evaluation"], "frozen": ["eval_rankings"]})
    assert "Go on to the end of round 1" in seen(researcher)
    press(researcher)
    wait_for(lambda: folder.typed)
    assert folder.typed == ["run"]


def test_pressing_twice_begins_one_run(researcher, client_of, folder):
    seen_by_both = seen(researcher).partition('name="seen" value="')[2].partition('"')[0]
    assert researcher.send_form(NEXT, seen=seen_by_both).status_code == 303
    again = client_of("researcher", None, "Rolf").send_form(NEXT, seen=seen_by_both)
    assert again.status_code == 303
    wait_for((folder.path / "began").exists)
    assert len(folder.typed) == 1


def test_answers_that_lack_block_it_and_the_page_says_how_many(researcher, labeler, store, clock, folder):
    open_comparison(store, texts=("Paris.", "Lyon."), overlap=2)
    folder.says(AHEAD | {"waits_for": {"rankings_second": "ranking"}, "steps": ["rankings_second"]})
    page = seen(researcher)
    assert "<b>2 judgements of rankings second</b>" in page
    assert 'name="seen"' not in page
    refused = researcher.send_form(NEXT, seen="")
    assert refused.status_code == 409
    assert "2 judgements of rankings second" in refused.text
    judge(store, clock, labeler.account)
    assert "<b>1 judgement of rankings second</b>" in seen(researcher)
    assert folder.typed == []


def test_what_has_changed_since_the_page_was_loaded_is_looked_at_again_first(researcher, store, folder):
    page = seen(researcher)
    hidden = page.partition('name="seen" value="')[2].partition('"')[0]
    open_demonstrations(store, 2)  # somebody opened tasks meanwhile
    assert researcher.send_form(NEXT, seen=hidden).headers["location"] == PAGE
    seen(researcher)
    assert researcher.send_form(NEXT, seen=hidden).status_code == 303
    assert folder.typed == []


def test_an_error_of_the_run_is_shown_as_text_and_kept_in_the_log(researcher, store, folder):
    press(researcher)
    folder.end("error: <b>the disk</b> is full")
    wait_for(lambda: researcher.get(NEXT).json()["state"] == "done")
    page = seen(researcher)
    assert "ended with an error" in page
    assert "error: &lt;b&gt;the disk&lt;/b&gt; is full" in page
    assert 'name="seen"' in page, "it can be tried again"
    [over] = store.audit.events(action="loop.end")
    assert over.details["state"] == "failed"


def test_what_cannot_be_looked_at_is_said(researcher, folder):
    folder.says("error: loop.yaml: recipe 'x' is unknown")
    assert "recipe &#39;x&#39; is unknown" in seen(researcher)


def test_it_is_stopped_where_it_can_go_on(researcher, store, folder):
    press(researcher)
    wait_for((folder.path / "began").exists)
    assert researcher.send_form(STOP).status_code == 303
    wait_for(lambda: researcher.get(NEXT).json()["state"] == "done")
    assert "It was stopped" in seen(researcher)
    assert events(store)[1:] == [("loop.stop", researcher.account.id), ("loop.end", None)]
    assert "Nothing is at work" in researcher.send_form(STOP).headers["set-cookie"].replace("%20", " ")


def test_a_run_that_was_begun_in_a_terminal_is_not_disturbed(researcher, folder):
    hidden = seen(researcher).partition('name="seen" value="')[2].partition('"')[0]
    files.lock(folder.path / "cache")
    try:
        assert f"process {os.getpid()}" in researcher.get(PAGE).text
        assert researcher.send_form(NEXT, seen=hidden).status_code == 303
        assert folder.typed == []
    finally:
        files.unlock(folder.path / "cache")


def test_readers_see_what_is_next_and_press_nothing(auditor, labeler, visitor, folder):
    page = seen(auditor)
    assert "Open 1\N{NARROW NO-BREAK SPACE}412 ranking tasks of round 1" in page
    assert 'name="seen"' not in page
    for path in (NEXT, STOP):
        assert auditor.send_form(path, seen="").status_code == 403
        assert labeler.send_form(path, seen="").status_code == 403
        assert visitor.send_form(path, seen="").status_code == 401
    assert labeler.get(NEXT).status_code == 403
    assert folder.typed == []


def test_another_site_cannot_press_it(researcher, folder):
    hidden = seen(researcher).partition('name="seen" value="')[2].partition('"')[0]
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert researcher.post(NEXT, data={"csrf": researcher.csrf, "seen": hidden}, headers=elsewhere).status_code == 403
    here = {"Origin": researcher.origin, "Sec-Fetch-Site": "same-origin"}
    assert researcher.post(NEXT, data={"csrf": "guessed", "seen": hidden}, headers=here).status_code == 403
    assert folder.typed == []


def test_a_look_takes_one_process_however_many_ask(researcher, folder, monkeypatch):
    monkeypatch.setenv("LOOK_SECONDS", "0.3")
    for _ in range(4):
        assert "Looking at what comes next" in researcher.get(PAGE).text
    seen(researcher)
    looks = (folder.path / "typed").read_text().splitlines()
    assert len(looks) == 1


def test_the_app_takes_what_it_began_along_when_it_ends(researcher, folder):
    press(researcher)
    wait_for((folder.path / "began").exists)
    assert folder.loop.stop()
    wait_for(lambda: folder.loop.going.state == "stopped")
    assert not folder.loop.stop()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_people_are_simulated_there_is_no_button(store, settings, clock, client_of, tmp_path, monkeypatch):
    app = create_app(store, settings, folder=tmp_path, clock=clock, passwords=Passwords(HASHER))
    browser = client_of("researcher")
    browser.app.state.loop = app.state.loop
    assert "People are simulated in this workspace" in browser.get(PAGE).text
    assert browser.get(NEXT).json() == {"state": "done"}
    assert browser.send_form(NEXT, seen="").status_code == 404
