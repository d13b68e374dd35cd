"""Labelers at work in a real browser: by keyboard alone, through reloads, without a connection, in two tabs."""

import json
from typing import Any

import pytest
from sqlalchemy import text

from instructloop.core.questions import CONDITIONAL_FLAGS
from instructloop.core.records import FLAGS
from instructloop.store import Store
from tests.web.desk_tasks import FEW_WORDS, open_comparison, open_demonstrations


def rows(store: Store, query: str) -> list[Any]:
    with store._database.read.connect() as connection:
        return list(connection.execute(text(query)).all())


def open_task(page: Any) -> None:
    """Go to the next task and wait until its scripts are ready."""
    page.goto("/work")
    page.wait_for_selector("#work[data-ready]")


def press(page: Any, keys: str) -> int:
    """Press single keys, separated by blanks where they have names; return how many."""
    pressed = keys.split(" ") if " " in keys else list(keys)
    for key in pressed:
        page.keyboard.press(key)
    return len(pressed)


def wait_for_state(page: Any, state: str) -> None:
    page.wait_for_selector(f'#saved[data-state="{state}"]')


def wait_for_end(page: Any) -> None:
    """Wait until the task was sent in and the page that follows is there."""
    page.wait_for_selector("text=Nothing is waiting for you")


def shown(store: Store) -> list[str]:
    [row] = rows(store, "SELECT shown FROM assignment")
    return json.loads(row.shown)


def no_to_all() -> dict[str, bool | None]:
    return {flag: None if flag in CONDITIONAL_FLAGS else False for flag in FLAGS}


def test_four_completions_are_compared_with_24_keystrokes(store, labeler_page):
    # Per completion: rating, A (no to the rest), X (two do not apply), J (next): 4 x 4. Ranks: 4, with 3 J between.
    # Submit: Ctrl+Enter, one chord. 16 + 7 + 1 = 24.
    # Keystroke-level model (Card, Moran, Newell 1980): 0.28 s a key, 1.35 s a decision; a decision for the rating, for
    # each of the two groups of flags and for the rank of each completion. Four texts of 20 words at 250 words a minute.
    keystrokes, decisions, words = 24, 4 * 4, 4 * 20
    assert keystrokes * 0.28 + decisions * 1.35 + words / 250 * 60 < 60  # 6.7 + 21.6 + 19.2 = 47.5 s
    open_comparison(store)
    open_task(labeler_page)
    pressed = press(labeler_page, "7axj4axj2axj1axj")
    pressed += press(labeler_page, "1j2j2j4")
    labeler_page.keyboard.press("Control+Enter")
    assert pressed + 1 == keystrokes
    wait_for_end(labeler_page)
    [row] = store.rankings(["ranking"], ["train"])
    a, b, c, d = row.shown
    assert row.ratings == {a: 7, b: 4, c: 2, d: 1}
    assert row.tiers == ((a,), tuple(sorted((b, c))), (d,))
    assert row.flags == dict.fromkeys((a, b, c, d), no_to_all())
    [circumstance] = rows(store, "SELECT active_seconds, wall_seconds FROM circumstance")
    assert 0 <= circumstance.active_seconds <= circumstance.wall_seconds + 1


@pytest.mark.slow
def test_nine_completions_are_compared_by_keyboard_alone(store, labeler_page):
    open_comparison(store, texts=FEW_WORDS)
    open_task(labeler_page)
    for place in range(9):
        press(labeler_page, f"{place % 7 + 1}ax")
        if place == 4:
            press(labeler_page, "g")  # gives harmful advice: A had said no, now yes
            press(labeler_page, "n")
            labeler_page.keyboard.type("7 j a 3?")  # typing answers nothing
            press(labeler_page, "Escape ArrowRight")
        else:
            press(labeler_page, "j")
    press(labeler_page, "1jtj3j4j5jtj7j8j9")  # t: ties B with A and F with E
    press(labeler_page, "u")  # I moves up beside H
    assert labeler_page.inner_text("#announce") == "Completion I, rank 8, tied with H"
    labeler_page.keyboard.press("Control+Enter")
    wait_for_end(labeler_page)
    [row] = store.rankings(["ranking"], ["train"])
    a, b, c, d, e, f, g, h, i = row.shown
    assert [row.ratings[key] for key in row.shown] == [1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert row.tiers == tuple(tuple(sorted(tier)) for tier in ((a, b), (c,), (d,), (e, f), (g,), (h, i)))
    assert row.notes == {e: "7 j a 3?"}
    assert row.flags[e] == no_to_all() | {"harmful_advice": True}
    assert row.flags[d] == no_to_all()


def test_nothing_is_submitted_before_every_question_is_answered(store, labeler_page):
    page = labeler_page
    open_comparison(store, texts=("one", "two"))
    open_task(page)
    page.keyboard.press("Control+Enter")
    assert page.locator("#problems li").all_inner_texts() == [
        "Completion A has no rating.",
        "Completion A: 11 flags are not answered.",
        "Completion B has no rating.",
        "Completion B: 11 flags are not answered.",
        "Completion A is not ranked.",
        "Completion B is not ranked.",
    ]
    page.click("text=Completion B: 11 flags are not answered.")
    assert page.evaluate("document.activeElement.name") == "flag-fails_instruction-B"
    press(page, "5a")
    page.keyboard.press("Control+Enter")
    assert "Completion B: 2 flags are not answered." in page.inner_text("#problems")
    assert rows(store, "SELECT id FROM submission") == []
    # Looking at the ranking ranks nothing.
    press(page, "r")
    page.keyboard.press("Control+Enter")
    assert "Completion A is not ranked." in page.inner_text("#problems")
    wait_for_state(page, "saved")
    [draft] = rows(store, "SELECT body FROM draft")
    body = json.loads(draft.body)
    a, b = shown(store)
    assert (body["ratings"], body["ranks"]) == ({b: 5}, {})
    assert body["flags"] == {a: {}, b: {flag: False for flag in FLAGS if flag not in CONDITIONAL_FLAGS}}


@pytest.mark.slow
def test_a_reload_half_way_loses_nothing(store, labeler_page):
    page = labeler_page
    open_comparison(store)
    open_task(page)
    press(page, "6axj3a")
    press(page, "n")
    page.keyboard.type("half-way")
    wait_for_state(page, "saved")
    page.keyboard.type(" and on")
    page.reload()  # before the second that an autosave waits
    page.wait_for_selector("#work[data-ready]")
    assert page.input_value("[name=note-B]") == "half-way and on"
    assert page.is_checked('[name=rating-B][value="3"]')
    assert page.is_checked('[name=rating-A][value="6"]')
    assert page.locator('input[name="flag-hallucination-B"]:checked').count() == 0
    assert page.get_attribute("[aria-current=step]", "aria-label").startswith("Completion B")
    # Another device has nothing of this one's memory: the server's draft alone must bring it back.
    wait_for_state(page, "saved")
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("#work[data-ready]")
    assert page.input_value("[name=note-B]") == "half-way and on"


@pytest.mark.slow
def test_what_the_server_never_got_comes_back_from_this_device(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    page.add_init_script("navigator.sendBeacon = () => false")
    open_task(page)
    page.route("**/draft", lambda route: route.abort())
    page.keyboard.type("It rains.")
    wait_for_state(page, "offline")
    page.reload()
    page.wait_for_selector("#work[data-ready]")
    assert page.input_value("[name=text]") == "It rains."
    assert rows(store, "SELECT * FROM draft") == []
    page.unroute("**/draft")
    wait_for_state(page, "saved")
    assert [json.loads(row.body)["text"] for row in rows(store, "SELECT body FROM draft")] == ["It rains."]


@pytest.mark.slow
def test_a_submission_left_behind_goes_off_from_the_next_task(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    open_comparison(store)
    page.goto("/work?kind=demonstrate")
    page.wait_for_selector("#work[data-ready]")
    page.keyboard.type("It rains.")
    page.route("**/submit", lambda route: route.abort())
    page.keyboard.press("Control+Enter")
    wait_for_state(page, "waiting")
    page.unroute("**/submit")
    page.goto("/work?kind=compare")
    page.wait_for_selector("#announce:has-text('now with the server')", state="attached")
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["It rains."]


def test_without_a_connection_work_goes_on_and_arrives_once(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    open_task(page)
    page.keyboard.type("It rains")
    wait_for_state(page, "saved")
    page.context.set_offline(True)
    page.keyboard.type(" and rains.")
    wait_for_state(page, "offline")
    assert page.inner_text("#saved") == "Offline \N{EN DASH} kept on this device"
    page.keyboard.press("Control+Enter")
    wait_for_state(page, "waiting")
    assert page.input_value("[name=text]") == "It rains and rains."
    assert page.is_disabled("[name=text]")
    assert rows(store, "SELECT id FROM submission") == []
    page.context.set_offline(False)
    wait_for_end(page)
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["It rains and rains."]
    assert page.evaluate("Object.keys(localStorage).filter((key) => /draft|outbox/.test(key))") == []


@pytest.mark.slow
def test_an_answer_lost_on_the_way_back_is_not_stored_twice(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    open_task(page)
    page.keyboard.type("It rains.")
    swallowed = []

    def swallow(route: Any) -> None:
        """Let the first submission reach the server and lose its receipt."""
        if swallowed:
            route.continue_()
            return
        swallowed.append(route.fetch().status)
        route.abort()

    page.route("**/submit", swallow)
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    assert swallowed == [200]
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["It rains."]


@pytest.mark.slow
def test_a_refused_submission_keeps_the_form(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    open_task(page)
    page.keyboard.type("It rains.")
    page.route("**/submit", lambda route: route.fulfill(status=400, json={"error": "No such luck."}))
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Not submitted: No such luck.")
    assert page.input_value("[name=text]") == "It rains."
    page.unroute("**/submit")
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    assert len(rows(store, "SELECT id FROM submission")) == 1


@pytest.mark.slow
def test_a_stale_tab_is_told_and_overwrites_only_on_purpose(store, labeler_page):
    open_demonstrations(store)
    first, second = labeler_page, labeler_page.context.new_page()
    open_task(first)
    open_task(second)
    first.fill("[name=text]", "of the first tab")
    wait_for_state(first, "saved")
    second.fill("[name=text]", "of the second tab")
    wait_for_state(second, "conflict")
    assert "also open in another tab" in second.inner_text("#problems")
    assert [json.loads(row.body)["text"] for row in rows(store, "SELECT body FROM draft")] == ["of the first tab"]
    second.click("text=Load the newer version")
    second.wait_for_selector("#work[data-ready]")
    assert second.input_value("[name=text]") == "of the first tab"
    second.fill("[name=text]", "of the second tab after all")
    wait_for_state(second, "saved")
    first.fill("[name=text]", "of the first tab again")
    wait_for_state(first, "conflict")
    first.click("text=Keep this version instead")
    wait_for_state(first, "saved")
    assert [json.loads(row.body)["text"] for row in rows(store, "SELECT body FROM draft")] == ["of the first tab again"]
    first.keyboard.press("Control+Enter")
    wait_for_end(first)
    second.fill("[name=text]", "too late")
    wait_for_state(second, "refused")
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["of the first tab again"]


@pytest.mark.slow
def test_a_lease_that_ran_out_is_told_and_the_late_answer_is_kept(store, labeler_page, new_account, clock):
    page = labeler_page
    open_demonstrations(store, overlap=1)
    open_task(page)
    clock.forward(hours=1)
    other = new_account("labeler", "train", "Otto Other")
    assert store.desk.next_assignment(other.labeler_id, clock()) is not None
    page.keyboard.type("late")
    page.wait_for_selector("text=somebody else has it now")
    assert page.get_attribute("#saved", "data-state") == "saved"
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    assert store.progress("writing").num_surplus == 1
    assert [row.text for row in rows(store, "SELECT text FROM demonstration")] == ["late"]


@pytest.mark.slow
def test_a_ranking_that_contradicts_the_ratings_is_warned_of_but_taken(store, labeler_page):
    page = labeler_page
    open_comparison(store, texts=("one", "two"))
    open_task(page)
    press(page, "6axj3axj2j1")
    assert page.inner_text("[data-warnings]") == "You rated A higher (6) than B (3), but ranked it lower."
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    [row] = store.rankings(["ranking"], ["train"])
    assert row.tiers == ((row.shown[1],), (row.shown[0],))


@pytest.mark.slow
def test_chips_can_be_dragged_and_only_write_into_the_radio_buttons(store, labeler_page):
    page = labeler_page
    open_comparison(store, texts=("one", "two", "three"))
    open_task(page)
    press(page, "r")
    for letter, rank in (("A", 2), ("B", 2), ("C", 1)):
        page.drag_and_drop(f'.chip:text-is("{letter}")', f'[data-rank="{rank}"]')
        assert page.is_checked(f'[name=rank-{letter}][value="{rank}"]')
    page.drag_and_drop('.chip:text-is("B")', '[data-rank=""]')
    assert page.is_checked('[name=rank-B][value=""]')
    wait_for_state(page, "saved")
    a, _, c = shown(store)
    assert json.loads(rows(store, "SELECT body FROM draft")[0].body)["ranks"] == {a: 2, c: 1}


@pytest.mark.slow
def test_keys_can_be_moved_and_turned_off(store, labeler_page):
    page = labeler_page
    open_comparison(store, texts=("one", "two"))
    open_task(page)
    press(page, "?")
    page.click('[aria-label="Change the key of: No to every flag that is open and always applies"]')
    press(page, "j")
    assert page.inner_text("#keys [role=status]") == "J belongs to: Next completion, then the ranking"
    page.click('[aria-label="Change the key of: No to every flag that is open and always applies"]')
    press(page, "z")
    page.click("#keys [data-close]")
    press(page, "a")
    assert page.inner_text("[data-letter=A] [data-open]") == "11 of 11 open"
    press(page, "z")
    assert page.inner_text("[data-letter=A] [data-open]") == "2 of 11 open"
    page.reload()
    page.wait_for_selector("#work[data-ready]")
    press(page, "?")
    page.uncheck("[name=keys-on]")
    page.click("#keys [data-close]")
    press(page, "7")
    assert page.locator("[name=rating-A]:checked").count() == 0


@pytest.mark.slow
def test_what_was_submitted_can_be_corrected_from_history(store, labeler_page):
    page = labeler_page
    open_comparison(store, texts=("one", "two"))
    open_task(page)
    press(page, "6axj3axj1j2")
    page.click("summary:has-text('About this prompt')")
    page.select_option("[name=category]", "open_qa")
    page.select_option("[data-annotation=ambiguous]", "no")
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    [said] = rows(store, "SELECT category, fields FROM annotation")
    answered = {name: value for name, value in json.loads(said.fields).items() if value is not None}
    assert (said.category, answered) == ("open_qa", {"ambiguous": False})
    page.goto("/history")
    page.click("text=Open")
    page.wait_for_selector("#work[data-ready]")
    assert page.get_attribute("[data-submit]", "aria-disabled") == "true"
    assert page.is_checked('[name=rating-B][value="3"]')
    assert page.input_value("[data-annotation=ambiguous]") == "no"
    assert page.input_value("[data-annotation=closed_domain]") == ""
    press(page, "r1j1")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=corrected")
    [row] = store.rankings(["ranking"], ["train"])
    assert row.tiers == (tuple(sorted(row.shown)),)
    assert len(rows(store, "SELECT id FROM submission")) == 2
    assert len(rows(store, "SELECT id FROM annotation")) == 1  # said once, not changed


@pytest.mark.slow
def test_a_task_is_skipped_with_a_reason(store, labeler_page):
    page = labeler_page
    open_demonstrations(store)
    open_task(page)
    page.click("[data-skip]")
    page.check('[name=reason][value="It needs knowledge that I lack"]')
    page.fill("[name=more]", "medicine")
    page.click("text=Skip it")
    wait_for_end(page)
    assert store.progress("writing").reasons == {"It needs knowledge that I lack: medicine": 1}


@pytest.mark.slow
def test_a_few_shot_prompt_survives_a_reload_and_gains_pairs(store, labeler_page):
    page = labeler_page
    page.goto("/write?kind=few_shot")
    page.fill("[name=instruction]", "Say what it says.")
    page.click("text=Add a pair")
    page.keyboard.type("cow")
    page.reload()
    page.wait_for_selector("text=Restored from this device")
    assert page.locator(".pair").count() == 4
    for place, (query, completion) in enumerate((("cat", "meow"), ("dog", "woof"), ("owl", "hoo"), ("cow", "moo"))):
        page.locator("[name=query]").nth(place).fill(query)
        page.locator("[name=completion]").nth(place).fill(completion)
    page.click("text=Save prompt")
    page.wait_for_selector("text=Your prompt is in the store")
    [row] = rows(store, "SELECT pairs FROM written_prompt")
    assert json.loads(row.pairs) == [["cat", "meow"], ["dog", "woof"], ["owl", "hoo"], ["cow", "moo"]]
    assert page.input_value("[name=instruction]") == ""


@pytest.mark.slow
def test_four_completions_are_compared_by_touch_on_a_phone(store, context_of):
    page = context_of(
        "labeler", "train", "Tilda Touch", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    ).new_page()
    open_comparison(store)
    open_task(page)

    def tap(name: str, value: object) -> None:
        page.locator(f'label:has(> [name="{name}"][value="{value}"])').tap()

    for letter, rating in zip("ABCD", (7, 4, 2, 1), strict=True):
        tap(f"rating-{letter}", rating)
        completion = page.locator(f"[data-letter={letter}]")
        completion.locator("[data-do=all-no]").tap()
        completion.locator("[data-do=none-apply]").tap()
        page.locator("[data-next]").tap()
    for letter, rank in zip("ABCD", (1, 2, 2, 4), strict=True):
        tap(f"rank-{letter}", rank)
    page.locator("[data-submit]").tap()
    wait_for_end(page)
    [row] = store.rankings(["ranking"], ["train"])
    a, b, c, d = row.shown
    assert row.ratings == {a: 7, b: 4, c: 2, d: 1}
    assert row.tiers == ((a,), tuple(sorted((b, c))), (d,))
    assert row.flags == dict.fromkeys((a, b, c, d), no_to_all())
