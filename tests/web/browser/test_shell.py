"""The frame of every page in a real browser: sign-in, focus, colours, direction, the account's menu."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from instructloop.store import Store
from tests.web.conftest import PASSWORD

pytestmark = pytest.mark.slow


def test_a_form_is_sent_once_however_often_one_clicks(chromium: Any, origin: str, new_account: Callable[..., Any]):
    new_account("auditor", None, "Aron Auditor")
    page = chromium.new_page(base_url=origin, locale="en-GB")
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    page.goto("/sign-in")
    page.fill("#email", "aron.auditor@example.org")
    page.fill("#password", PASSWORD)
    page.locator("main button").dblclick()
    page.wait_for_url(origin + "/")
    assert posts == [origin + "/sign-in"]
    page.close()


def test_the_keyboard_comes_to_the_content_first_and_sees_where_it_is(labeler_page: Any):
    labeler_page.goto("/")
    labeler_page.keyboard.press("Tab")
    skip = labeler_page.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    top = "document.activeElement.getBoundingClientRect().top"
    deadline = time.monotonic() + 10
    while labeler_page.evaluate(top) < 0 and time.monotonic() < deadline:
        labeler_page.wait_for_timeout(20)  # it glides into the page
    assert labeler_page.evaluate(top) >= 0
    assert skip.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    assert skip.evaluate("e => parseFloat(getComputedStyle(e).outlineWidth)") >= 2
    labeler_page.keyboard.press("Enter")
    assert labeler_page.evaluate("document.activeElement.id") == "main"


def test_the_menu_of_the_account_opens_and_closes_by_keyboard(labeler_page: Any):
    labeler_page.goto("/")
    menu = labeler_page.locator("details.me")
    menu.locator("summary").focus()
    labeler_page.keyboard.press("Enter")
    assert menu.get_by_role("button", name="Sign out").is_visible()
    labeler_page.keyboard.press("Tab")
    labeler_page.keyboard.press("Escape")
    assert menu.get_attribute("open") is None
    assert labeler_page.evaluate("document.activeElement.tagName") == "SUMMARY"


@pytest.mark.parametrize(
    ("system", "setting", "is_dark"), [("dark", None, True), ("light", "dark", True), ("dark", "light", False)]
)
def test_colours_follow_the_system_or_the_setting(
    context_of: Callable[..., Any], store: Store, system, setting, is_dark
):
    context = context_of("labeler", "train", "Lea Labeler", color_scheme=system)
    if setting:
        store.accounts.set_profile(context.account.id, ["en"], "", {"theme": setting})
    page = context.new_page()
    page.goto("/")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (sum(channels) < 3 * 64) == is_dark, colour


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_page_turned_around_begins_at_the_right_and_fits(context_of: Callable[..., Any], store: Store, width: int):
    context = context_of("researcher", None, "Rita Researcher", viewport={"width": width, "height": 800})
    store.accounts.set_profile(context.account.id, ["ar"], "", {"direction": "rtl", "size": "larger"})
    page = context.new_page()
    for path in ("/", "/profile", "/consent"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        brand = page.locator(".brand").bounding_box()
        assert brand["x"] + brand["width"] > width / 2


def test_targets_are_large_enough_to_hit(labeler_page: Any):
    """WCAG 2.2, 2.5.8: 24 by 24 px, links inside a sentence excepted."""
    labeler_page.goto("/profile")
    small = labeler_page.evaluate(
        """() => [...document.querySelectorAll("button, .button, nav a, summary, select, label.choice, .field > input")]
            .map((element) => [element, element.getBoundingClientRect()])
            .filter(([element, box]) => element.checkVisibility() && (box.width < 24 || box.height < 24))
            .map(([element]) => element.outerHTML.slice(0, 80))"""
    )
    assert labeler_page.locator("label.choice").count() > 30
    assert small == []


def test_times_are_told_in_the_readers_zone(context_of: Callable[..., Any]):
    """The tests' clock stands at noon in UTC on 1 March 2026: nine in the evening in Tokyo."""
    page = context_of("owner", None, "Olga Owner", timezone_id="Asia/Tokyo").new_page()
    page.goto("/people")
    time = page.locator("time").first
    assert time.inner_text() == "1 Mar 2026, 21:00"
    assert time.get_attribute("title") == "01 Mar 2026, 12:00 UTC"
