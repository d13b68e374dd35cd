"""One whole way through the app in a real browser, a labeler's and the owner's beside it: from the link to oblivion."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instructloop.store import Store
from tests.web.browser.test_labelling import open_task, press, rows, wait_for_state
from tests.web.conftest import TestClock
from tests.web.desk_tasks import FEW_WORDS, open_comparison, open_demonstrations

GOLD = {
    "prompt": "Say something kind about cats.",
    "completions": ["Cats are gentle company.", "Cats.", "Kick every cat."],
    "tiers": [[0], [1], [2]],
    "flags": [{}, {}, {"inappropriate_for_assistant": True, "violent_content": True}],
    "why": "The last one is cruel.",
}
PASSWORD = "seven grey geese"


@pytest.fixture
def stranger(chromium: Any, origin: str, errors: list[str]) -> Iterator[Callable[[], Any]]:
    """Open a page in a browser of its own that nobody is signed in with."""
    made = []

    def page() -> Any:
        context = chromium.new_context(base_url=origin, viewport={"width": 1280, "height": 850}, locale="en-GB")
        context.set_default_timeout(30_000)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        made.append(context)
        return context.new_page()

    yield page
    for context in made:
        context.close()


def join(page: Any, link: str, name: str, email: str) -> None:
    page.goto(link)
    page.fill("[name=name]", name)
    page.fill("[name=email]", email)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Make the account").click()


@pytest.mark.slow
def test_from_the_invitation_to_the_deletion(
    store: Store, clock: TestClock, stranger: Callable[[], Any], tmp_path: Any
):
    # The first owner comes by the link that the command prints, and invites a candidate.
    owner, lea = stranger(), stranger()
    token = store.accounts.first_owner_invite(clock())
    join(owner, f"/invitation/{token}", "Olga Owner", "olga@example.org")
    owner.wait_for_selector("text=You own this project")
    owner.goto("/people/invite")
    owner.locator("[name=role]").first.wait_for()
    choose(owner, "role", "labeler")
    choose(owner, "cohort", "screening")
    owner.locator("main form button.primary").click()
    link = owner.locator("#link").input_value()

    # Gold for the screening comes from a file.
    gold = tmp_path / "gold.jsonl"
    gold.write_text(json.dumps(GOLD) + "\n")
    owner.goto("/research/screening/gold")
    owner.set_input_files("#file", str(gold))
    owner.get_by_role("button", name="Import").click()
    owner.wait_for_selector("text=1 of 1 lines are open as tasks")

    # The candidate signs up, agrees, and judges; the link does not work twice.
    join(lea, link, "Lea Labeler", "lea@example.org")
    lea.wait_for_selector("[name=agree]")
    lea.goto("/work")
    assert lea.url.endswith("/consent")  # no work before consent
    lea.check("[name=agree]")
    lea.get_by_role("button", name="Go on").click()
    lea.wait_for_url(lambda url: not url.endswith("/consent"))
    late = stranger()
    assert late.goto(link).status in (404, 410)
    open_task(lea)
    judge_screening(lea, store)

    # The owner sees what the candidate did, and accepts with a reason.
    owner.goto("/research/screening")
    owner.get_by_role("link", name="Lea Labeler").first.click()
    owner.fill("#reason", "Sees what is cruel.")
    owner.get_by_role("button", name="Accept").click()
    owner.wait_for_selector("text=The decision is recorded")
    assert [(row.is_accepted, row.reason) for row in rows(store, "SELECT is_accepted, reason FROM decision")] == [
        (1, "Sees what is cruel.")
    ]

    # Now the loop opens work: a demonstration and a comparison.
    open_demonstrations(store, overlap=1, now=clock())
    open_task(lea)
    lea.fill("#text", "Rain taps the roof.\nThe gutter hums.")
    lea.keyboard.press("Control+Enter")
    lea.wait_for_selector("text=Nothing is waiting for you")
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == [
        "Rain taps the roof.\nThe gutter hums."
    ]
    open_comparison(store, texts=FEW_WORDS[:4], overlap=1, now=clock())
    open_task(lea)
    press(lea, "7axj4axj2axj1axj1j2j3j4")
    lea.keyboard.press("Control+Enter")
    lea.wait_for_selector("text=Nothing is waiting for you")
    nine_with_much_in_the_way(lea, store, clock)

    # The owner freezes the rankings and exports them, and the file says what was judged.
    owner.goto("/research/tasks")
    owner.locator("form[action$='/freeze']").filter(has=owner.locator("[value=ranking]")).locator("button").click()
    frozen = download(owner)
    assert [row["prompt"] for row in frozen] == ["What is the capital of France?"]
    assert [len(tier) for tier in frozen[0]["tiers"]] == [1, 1, 1, 1]
    owner.goto("/exports")
    choose(owner, "kind", "rankings")
    owner.get_by_role("button", name="Make the export").click()
    exported = download(owner)
    [labeler] = [
        row.labeler_id for row in rows(store, "SELECT labeler_id FROM account WHERE email = 'lea@example.org'")
    ]
    assert labeler in json.dumps(frozen)
    assert labeler not in json.dumps(exported)  # a pseudonym of this export stands there

    # And in the end Lea wants to be forgotten: her name goes, her judgements stay.
    owner.goto("/people")
    owner.get_by_role("link", name="Lea Labeler").first.click()
    owner.wait_for_selector("text=What a removal would touch")
    owner.fill("#confirmed", "lea@example.org")
    owner.get_by_role("button", name="Remove", exact=True).click()
    owner.wait_for_selector("text=The person is removed")
    assert rows(store, "SELECT 1 FROM account WHERE name LIKE 'Lea%' OR email LIKE 'lea@%'") == []
    assert len(rows(store, "SELECT 1 FROM submission")) == 4
    lea.goto("/work")
    assert "/sign-in" in lea.url


def choose(page: Any, name: str, value: str) -> None:
    """Choose a value of a select or of radio buttons."""
    control = page.locator(f"main [name={name}]").first
    if control.evaluate("one => one.tagName") == "SELECT":
        control.select_option(value)
    else:
        page.locator(f"main [name={name}][value={value}]").check()


def judge_screening(page: Any, store: Store) -> None:
    """Rate, flag and rank the gold task as the gold does, whatever the order in which it is shown."""
    [row] = rows(store, "SELECT shown FROM assignment")
    texts = {one.id: one.text for one in store.completions()}
    shown = [texts[key] for key in json.loads(row.shown)]
    keys = {"Cats are gentle company.": "7axj", "Cats.": "4axj", "Kick every cat.": "1ivaxj"}
    ranks = {"Cats are gentle company.": "1", "Cats.": "2", "Kick every cat.": "3"}
    press(page, "".join(keys[text] for text in shown) + "j".join(ranks[text] for text in shown))
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Nothing is waiting for you")


def nine_with_much_in_the_way(page: Any, store: Store, clock: TestClock) -> None:
    """Compare nine by keyboard through a reload, an hour without a connection, a lease that ran out, a second tab."""
    open_comparison(store, texts=FEW_WORDS, task_set="nine", prompt="Where is it?", overlap=1, now=clock())
    open_task(page)
    press(page, "7axj" * 4 + "3")
    wait_for_state(page, "saved")
    page.reload()
    page.wait_for_selector("#work[data-ready]")
    assert page.get_attribute("[aria-current=step]", "aria-label").startswith("Completion E")
    press(page, "axj" + "2axj" * 4)
    page.context.set_offline(True)
    press(page, "1jtjtjt")
    wait_for_state(page, "offline")
    clock.forward(hours=1)  # the lease runs out meanwhile, and nobody else takes the task
    page.context.set_offline(False)
    wait_for_state(page, "saved")
    other = page.context.new_page()
    open_task(other)
    press(page, "j2jtjtjtjt")
    wait_for_state(page, "saved")
    press(other, "r9")
    wait_for_state(other, "conflict")  # the older tab overwrites nothing
    other.close()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Nothing is waiting for you")
    [row] = store.rankings(["nine"], ["train"])
    assert row.tiers == tuple(tuple(sorted(tier)) for tier in (row.shown[:4], row.shown[4:]))
    assert [row.ratings[key] for key in row.shown] == [7] * 4 + [3] + [2] * 4


def download(page: Any) -> list[dict[str, Any]]:
    """Wait until the export at hand is made, and return the rows of its file."""
    page.wait_for_selector("text=Download the file")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download the file").click()
    with open(waiting.value.path()) as file:
        return [json.loads(line) for line in file]
