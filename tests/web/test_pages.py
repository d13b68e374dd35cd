"""What pages are made of: words for numbers, colours that can be read, the frame, and the start pages."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import instructloop.web
from instructloop.core.records import Prompt
from instructloop.store import Store, TaskItem
from instructloop.web.pages import duration, number, percent, when
from tests.web.conftest import Browser, TestClock

CSS = (Path(instructloop.web.__file__).parent / "static" / "app.css").read_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_seconds_are_said_as_people_say_them(seconds: float | None, text: str):
    assert duration(seconds) == text


def test_numbers_and_shares():
    space = "\N{NARROW NO-BREAK SPACE}"
    assert number(1234567) == f"1{space}234{space}567"
    assert number(999) == "999"
    assert percent(0.7275, 1) == f"72.8{space}%"  # 72.75 is above the half in binary
    assert percent(1) == f"100{space}%"
    assert percent(None) == "\N{EN DASH}"


def test_a_time_is_said_in_utc_for_those_without_scripts():
    time = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
    assert when(time) == '<time datetime="2026-03-01T00:30:00+00:00">01 Mar 2026, 00:30 UTC</time>'
    assert "28 Feb 2026, 23:30 UTC" in when(datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))))


# Colours


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def tokens(scheme: int, *, is_high: bool) -> dict[str, str]:
    """Return the colours of a scheme (0 light, 1 dark), with those of high contrast over them where asked."""

    def read(block: str) -> dict[str, str]:
        found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", block)
        return {name: pair[scheme] for name, *pair in found}

    normal = read(CSS[: CSS.index("@media (prefers-contrast")])
    high = read(CSS[CSS.index(':root[data-contrast="more"]') : CSS.index("/* Page */")])
    return normal | (high if is_high else {})


def test_the_formula_of_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WebAIM's well-known grey that just fails


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("is_high", "least"), [(False, 4.5), (True, 7.0)], ids=["normal", "high"])
def test_text_can_be_read_on_every_ground(scheme: int, is_high: bool, least: float):
    """WCAG 2.2: 4.5:1 for text (AA), 7:1 (AAA) where high contrast is asked for."""
    colour = tokens(scheme, is_high=is_high)
    pairs = [(ink, ground) for ink in ("text", "muted", "accent") for ground in ("ground", "surface", "sunken")]
    pairs += [(f"{kind}", f"{kind}-soft") for kind in ("good", "warn", "bad")]
    pairs += [("bad", "surface"), ("on-accent", "accent"), ("accent-strong", "accent-soft"), ("text", "accent-soft")]
    for ink, ground in pairs:
        assert contrast(colour[ink], colour[ground]) >= (4.5 if "soft" in ground else least), (ink, ground)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_the_edges_of_controls_can_be_seen(scheme: int):
    """WCAG 2.2, 1.4.11: 3:1 for what shows where a control is, and for the outline of the focus."""
    colour = tokens(scheme, is_high=False)
    for edge in ("edge", "accent"):
        for ground in ("ground", "surface"):
            assert contrast(colour[edge], colour[ground]) >= 3, (edge, ground)


def test_high_contrast_is_the_same_by_setting_and_by_system():
    by_system = CSS[CSS.index("@media (prefers-contrast") : CSS.index(':root[data-contrast="more"]')]
    by_setting = CSS[CSS.index(':root[data-contrast="more"]') : CSS.index("/* Page */")]
    assert re.findall(r"--[\w-]+: .*;", by_system) == re.findall(r"--[\w-]+: .*;", by_setting)


def test_the_design_knows_no_left_and_right():
    """Logical properties alone, so that a page turned around is turned around whole."""
    without_comments = re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL)
    physical = r"(?:margin|padding|border|inset)-(?:left|right)\b|(?<![\w-])(?:left|right)\s*:|float\s*:"
    assert re.findall(physical, without_comments) == []


# The frame


def test_a_page_has_a_language_a_title_and_one_main(labeler: Browser):
    page = labeler.get("/").text
    assert '<html lang="en" dir="ltr" data-theme="system" data-contrast="system" data-size="normal">' in page
    assert "<title>Home · instructloop</title>" in page
    assert len(re.findall("<main", page)) == 1
    assert page.index('class="skip"') < page.index("<header")
    assert len(re.findall("<h1", page)) == 1


def test_the_navigation_says_where_one_is(labeler: Browser, auditor: Browser):
    page = labeler.get("/").text
    assert re.findall(r'<a href="([^"]+)" aria-current="page">', page) == ["/"]
    assert 'href="/research"' not in page
    assert 'href="/work"' not in auditor.get("/").text


# Start pages


def open_writing(store: Store, clock: TestClock, number: int, cohort: str = "train") -> None:
    prompts = [Prompt.make(f"prompt {i}", source="customer", user=f"user {i}", split="train") for i in range(number)]
    store.add_prompts(prompts)
    items = [TaskItem(prompt.id) for prompt in prompts]
    store.open_tasks("writing", "demonstrate", items, overlap=1, cohort=cohort, now=clock())  # type: ignore[arg-type]


def test_a_labeler_sees_how_much_waits_for_them(labeler: Browser, client_of, store: Store, clock: TestClock):
    assert "Nothing is waiting for you" in labeler.get("/").text
    open_writing(store, clock, 3)
    page = labeler.get("/").text
    assert "3 tasks are waiting for you" in page
    assert "3 demonstrations to write" in page
    assert 'href="/work"' in page
    assert "Nothing is waiting for you" in client_of("labeler", "heldout").get("/").text


def test_a_labeler_sees_their_pace(labeler: Browser, store: Store, clock: TestClock):
    open_writing(store, clock, 2)
    who = labeler.account.labeler_id
    assert who is not None
    assert "Last 24 hours" not in labeler.get("/").text
    for number_ in range(2):
        assignment = store.desk.next_assignment(who, clock())
        assert assignment is not None
        item = store.desk.assignment(assignment.id, who)
        assert item is not None
        times = {"active_seconds": 100.0, "wall_seconds": 120.0, "instruction": item.instruction.version}
        store.desk.submit(assignment.id, who, "an answer", key=f"{number_}", now=clock(), **times)  # type: ignore[arg-type]
    page = labeler.get("/").text
    assert re.search(r"<dt>Last 24 hours</dt><dd>2</dd>", page)
    assert re.search(r"<dt>Active time</dt><dd>3 min 20 s</dd>", page)  # 2 * 100 s


def test_an_owner_sees_what_to_do_first_until_it_is_done(owner: Browser, new_account, store: Store, clock: TestClock):
    assert owner.get("/").text.count('class="is-done"') == 0
    new_account("labeler")
    open_writing(store, clock, 3)
    page = owner.get("/").text
    assert page.count('class="is-done"') == 2
    assert "writing" in page
    assert "0\N{NARROW NO-BREAK SPACE}% of the judgements are there" in page


def test_names_of_task_sets_are_shown_and_never_run(owner: Browser, store: Store, clock: TestClock):
    prompt = Prompt.make("p", source="customer", user="u", split="train")
    store.add_prompts([prompt])
    name = "<script>alert(1)</script>"
    store.open_tasks(name, "demonstrate", [TaskItem(prompt.id)], overlap=1, cohort="train", now=clock())
    page = owner.get("/").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_an_auditor_is_asked_to_do_nothing(auditor: Browser):
    page = auditor.get("/").text
    assert "You can read everything and change nothing." in page
    assert "First steps" not in page
