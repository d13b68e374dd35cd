"""Every page for everybody: axe-core finds nothing serious, light and dark, and nothing is wider than a phone."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from fastapi.routing import APIRoute

from instructloop.store import Store
from tests.web.browser.test_journey import GOLD
from tests.web.conftest import Browser, TestClock
from tests.web.desk_tasks import comparison_answer, open_comparison, open_demonstrations
from tests.web.test_next_step import AHEAD, Folder

ARABIC = "ما هي عاصمة فرنسا؟ أجب في جملة واحدة من فضلك."
NOT_PAGES = r"/api/|/tasks/next$|/file$|/manifest$|/state$|/static|/healthz|/robots"


@pytest.fixture
def filled(
    store: Store, clock: TestClock, client_of: Callable[..., Browser], researcher: Browser, tmp_path: Any
) -> dict[str, str]:
    """A store with something on every page; the value of each parameter of a route."""
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n" + json.dumps({"prompt": "Write about a cruel joke."}) + "\n")
    store.screening.import_sets(
        gold, purpose="screening", cohort="screening", num_people=5, by=researcher.account.id, now=clock()
    )
    candidate = client_of("labeler", "screening", "Cara Candidate")
    open_comparison(store, task_set="r01-rankings-1", prompt=ARABIC, now=clock())
    open_demonstrations(store, 2, now=clock())
    first, second = client_of("labeler", "train", "Ann"), client_of("labeler", "train", "Bob")
    for who, ranks in ((first, [1, 2, 3, 4]), (second, [4, 3, 2, 1])):
        submit(who, "compare", ranks)
    submit(first, "demonstrate", [])
    done = submit(candidate, "demonstrate", [])
    doing = client_of("labeler", "train", "Cem").send_json("POST", "/api/next").json()
    researcher.send_form("/exports", kind="judgements")
    [task] = [task.id for task in store.screening.gold_tasks() if task.kind == "compare"]
    [conflict] = [one.task_id for one in store.research.conflicts().rows]
    return {
        "token": store.accounts.invite("labeler", "train", "", researcher.account.id, clock())[1],
        "assignment_id": doing["id"],
        "task_id": conflict,
        "gold": task,
        "labeler_id": str(first.account.labeler_id),
        "candidate": str(candidate.account.labeler_id),
        "account_id": first.account.id,
        "job_id": store.exports.jobs()[0].id,
        "kind": "compare",
        "submission_id": done,
    }


def submit(who: Browser, kind: str, ranks: list[int]) -> str:
    """Do the next task of a kind through the API, and return the receipt."""
    task = who.send_json("POST", "/api/next", {"kind": kind}).json()
    answer = {"text": "A joke should hurt nobody."}
    if kind == "compare":
        answer = comparison_answer(sorted(one["id"] for one in task["completions"]), ranks)
    body = {
        "idempotency_key": f"key-{task['id']}", "answer": answer, "active_seconds": 20.0, "wall_seconds": 30.0,
        "instruction_version": task["instruction"]["version"],
    }  # fmt: skip
    sent = who.send_json("POST", f"/api/assignments/{task['id']}/submit", body)
    assert sent.status_code == 200, sent.text
    return sent.json()["receipt"]


def pages(app: FastAPI, values: dict[str, str]) -> list[str]:
    """Return the address of every page that a GET gives, with parameters filled in."""
    found: list[str] = []
    for path in sorted({route.path for route in routes(app) if "GET" in route.methods}):
        if re.search(NOT_PAGES, path):
            continue
        use = dict(values)
        if "/gold/" in path:
            use["task_id"] = values["gold"]
        if "/candidates/" in path:
            use["labeler_id"] = values["candidate"]
        found.append(re.sub(r"\{(\w+)(?::path)?\}", lambda name, use=use: use[name[1]], path))
    return found


def routes(app: FastAPI) -> Iterator[APIRoute]:
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield route


def serious(page: Any) -> list[str]:
    """Return what axe-core calls serious or critical, with the elements concerned."""
    return [
        f"{one['id']}: {node['target']} {node['html'][:200]}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.slow  # CI runs it
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_violation_or_scrolls_sideways_on_a_phone(
    app: FastAPI, filled: dict[str, str], context_of: Callable[..., Any], scheme: str
):
    found: dict[str, list[str]] = {}
    visited: set[str] = set()
    for role in ("labeler", "owner"):
        context = context_of(role, None, f"{role} of all pages", color_scheme=scheme)
        page = context.new_page()
        for path in pages(app, filled):
            if role == "labeler" and path.startswith(("/research", "/people", "/audit", "/exports")):
                continue
            if path.startswith("/work/"):
                path = "/work"  # their own next task
            answer = page.goto(path)
            if answer.status != 200:
                continue
            visited.add(path)
            page.set_viewport_size({"width": 1280, "height": 850})
            problems = serious(page)
            page.set_viewport_size({"width": 360, "height": 740})
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            problems += [f"{wide} px wider than 360"] if wide > 0 else []
            if problems:
                found[f"{role} {path}"] = problems
    assert found == {}
    assert set(pages(app, filled)) - visited <= {f"/work/{filled['assignment_id']}", "/new-password/" + filled["token"]}


@pytest.mark.slow
def test_the_next_step_is_pressed_followed_and_stopped_without_a_reload_by_hand(
    app: FastAPI, context_of: Callable[..., Any], tmp_path: Any
):
    (tmp_path / "loop").mkdir()
    folder = Folder(tmp_path / "loop")
    app.state.loop = folder.loop
    page = context_of("owner", None, "Olga Owner").new_page()
    folder.says(AHEAD | {"steps": ["demonstrations", "sft", "samples"], "frozen": ["demonstrations"]})
    page.goto("/research/tasks")
    page.wait_for_selector("text=Go on to the ranking tasks of round 1")
    assert serious(page) == []
    page.click("text=Go on to the ranking tasks of round 1")
    page.wait_for_selector("#said:has-text('samples: begins')")
    assert serious(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.click("text=Stop")
    page.wait_for_selector("text=It was stopped")
    page.wait_for_selector("text=Go on to the ranking tasks of round 1")
    folder.end("error: no space left")
    page.click("text=Go on to the ranking tasks of round 1")
    page.wait_for_selector("text=ended with an error")
    page.wait_for_selector("text=error: no space left")
    assert serious(page) == []
