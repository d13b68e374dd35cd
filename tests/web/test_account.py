"""Invitation, sign-up, sign-in and -out, sessions: what the form does and what the store has then."""

import re
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI

from instructloop.store import Store
from instructloop.web.account import network, safe_path
from instructloop.web.app import create_app
from instructloop.web.passwords import Passwords, objection
from instructloop.web.settings import Settings
from tests.web.conftest import AGENT, HASHER, PASSWORD, Browser, TestClock

ANN = {"name": "Ann Able", "email": "Ann@Example.org", "password": PASSWORD}


def invite(store: Store, clock: TestClock, role="labeler", cohort="train", days=14.0) -> str:
    return store.accounts.invite(role, cohort, "", None, clock(), days=days)[1]


def sign_in(browser: Browser, password: str = PASSWORD, email: str = "ann@example.org", **more: str):
    return browser.send_form("/sign-in", email=email, password=password, **more)


def is_signed_in(browser: Browser) -> bool:
    return browser.get("/profile").status_code == 200


@pytest.fixture
def ann(app: FastAPI, visitor: Browser, store: Store, clock: TestClock) -> Browser:
    """Ann, who signed up by invitation, and her browser."""
    answer = visitor.send_form(f"/invitation/{invite(store, clock)}", **ANN)
    assert answer.status_code == 303, answer.text
    account = store.accounts.account_by_email("ann@example.org")
    assert account is not None
    visitor.account = account
    return visitor


# Invitation and sign-up


def test_an_invitation_makes_an_account_that_is_signed_in(ann: Browser, store: Store):
    assert is_signed_in(ann)
    (account,) = store.accounts.accounts()
    assert (account.name, account.email, account.role, account.cohort) == (
        "Ann Able",
        "ann@example.org",
        "labeler",
        "train",
    )
    stored = store.accounts.password_hash(account.id)
    assert stored is not None
    assert PasswordHasher().verify(stored, PASSWORD)  # parameters are in the hash
    assert stored.startswith("$argon2id$")


def test_an_invitation_works_once(ann: Browser, app: FastAPI, store: Store, clock: TestClock):
    token = invite(store, clock)
    assert Browser(app).send_form(f"/invitation/{token}", **ANN | {"email": "b@example.org"}).status_code == 303
    assert Browser(app).get(f"/invitation/{token}").status_code == 410
    again = Browser(app).send_form(f"/invitation/{token}", **ANN | {"email": "c@example.org"})
    assert again.status_code == 410
    assert len(store.accounts.accounts()) == 2


@pytest.mark.parametrize("what", ["expired", "revoked", "unknown"])
def test_an_invitation_that_is_over_makes_no_account(visitor: Browser, store: Store, clock: TestClock, what: str):
    made, token = store.accounts.invite("labeler", "train", "", None, clock(), days=3)
    if what == "expired":
        clock.forward(days=3, seconds=1)
    if what == "revoked":
        store.accounts.revoke_invite(made.id, None, clock())
    if what == "unknown":
        token = token[:-1] + ("A" if token[-1] != "A" else "B")
    page = visitor.get(f"/invitation/{token}")
    assert page.status_code == 410
    assert "not valid" in page.text
    assert visitor.send_form(f"/invitation/{token}", **ANN).status_code == 410
    assert store.accounts.accounts() == []


def test_an_invitation_works_until_its_last_second(visitor: Browser, store: Store, clock: TestClock):
    token = invite(store, clock, days=3)
    clock.forward(days=3, seconds=-1)
    assert visitor.send_form(f"/invitation/{token}", **ANN).status_code == 303


def test_a_role_typed_into_the_form_changes_nothing(visitor: Browser, store: Store, clock: TestClock):
    visitor.send_form(f"/invitation/{invite(store, clock)}", **ANN, role="owner", cohort="heldout")
    (account,) = store.accounts.accounts()
    assert (account.role, account.cohort) == ("labeler", "train")


def test_the_page_of_an_invitation_does_not_name_the_cohort(visitor: Browser, store: Store, clock: TestClock):
    """Held-out labelers shall not know that they are (paper 3.4)."""
    page = visitor.get(f"/invitation/{invite(store, clock, cohort='heldout')}").text
    assert "labeler" in page
    assert not re.search("held.?out", page, re.IGNORECASE)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "  "}, "How shall others call you?"),
        ({"password": "short"}, "at least 12 characters"),
        ({"password": "ann@example.org"}, "Leave your name and your address out of it."),
        ({"email": "nowhere"}, "Email must look like"),
        ({"name": "Ann\u202e"}, "direction"),
    ],
)
def test_a_sign_up_with_a_mistake_keeps_what_was_typed_and_the_invitation(
    visitor: Browser, store: Store, clock: TestClock, changes: dict[str, str], error: str
):
    token = invite(store, clock)
    fields = ANN | {"email": "annette@example.org", "name": "Annette"} | changes
    if changes.get("password") == "ann@example.org":
        fields |= {"email": "ann@example.org", "name": "ann@example.org"}
    answer = visitor.send_form(f"/invitation/{token}", **fields)
    assert answer.status_code == 400
    assert error in answer.text
    assert f'value="{fields["email"]}"' in answer.text
    assert fields["password"] not in answer.text.replace(f'value="{fields["email"]}"', "").replace(fields["name"], "")
    assert store.accounts.accounts() == []
    assert store.accounts.find_invite(token, clock()) is not None


def test_a_name_is_shown_and_never_run(visitor: Browser, store: Store, clock: TestClock):
    name = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    visitor.send_form(f"/invitation/{invite(store, clock, 'auditor', None)}", **ANN | {"name": name})
    for path in ("/", "/profile"):
        page = visitor.get(path).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page
        assert "<img" not in page


def test_signing_up_while_signed_in_signs_out_of_the_first_account(ann: Browser, store: Store, clock: TestClock):
    first = ann.cookies[ann.session_cookie]
    ann.send_form(f"/invitation/{invite(store, clock)}", **ANN | {"email": "b@example.org"})
    assert "b@example.org" in ann.get("/profile").text
    ann.cookies.set(ann.session_cookie, first, domain="127.0.0.1")
    assert not is_signed_in(ann)


# Consent


def test_a_labeler_agrees_before_anything_else(ann: Browser, store: Store, clock: TestClock):
    assert ann.get("/").headers["location"] == "/consent"
    assert ann.get("/", headers={"Accept": "application/json"}).status_code == 403
    page = ann.get("/consent").text
    assert "Before you begin" in page
    assert ann.send_form("/consent", version="1").status_code == 400  # the box is not ticked
    older = ann.send_form("/consent", version="2", agree="yes")
    assert older.status_code == 400
    assert "The text has changed; read it again." in older.text
    assert store.accounts.agreed_version(ann.account.id) == 0
    assert ann.send_form("/consent", version="1", agree="yes").headers["location"] == "/profile"
    assert store.accounts.agreed_version(ann.account.id) == 1
    assert ann.get("/").status_code == 200


def test_a_new_text_of_consent_is_asked_again(labeler: Browser, researcher: Browser, store: Store, clock: TestClock):
    assert labeler.get("/").status_code == 200
    store.accounts.set_consent("# New terms", None, clock())
    assert labeler.get("/").headers["location"] == "/consent"
    assert "New terms" in labeler.get("/consent").text
    assert researcher.get("/").status_code == 200


def test_an_owner_publishes_another_text_of_consent(
    owner: Browser, researcher: Browser, labeler: Browser, store: Store
):
    text = "# Terms\r\n\r\nYou may <b>stop</b> at any time."
    assert researcher.send_form("/consent/text", markdown=text).status_code == 403
    assert owner.send_form("/consent/text", markdown=" ").status_code == 400
    assert owner.send_form("/consent/text", markdown=text).headers["location"] == "/consent"
    consent = store.accounts.consent_text()
    assert (consent.version, consent.markdown) == (2, "# Terms\n\nYou may <b>stop</b> at any time.")
    assert labeler.get("/").headers["location"] == "/consent"
    assert "You may &lt;b&gt;stop&lt;/b&gt; at any time." in labeler.get("/consent").text
    owner.send_form("/consent/text", markdown=text)
    assert store.accounts.consent_text().version == 2  # the same text is no new version
    (event,) = store.audit.events(10, action="consent")
    assert event.actor == owner.account.id


# Signing in


def test_signing_in_opens_a_session_and_goes_where_one_wanted_to(ann: Browser, app: FastAPI):
    other = Browser(app)
    answer = sign_in(other, email=" ANN@example.org ", next="/profile?tab=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/profile?tab=1")
    assert is_signed_in(other)
    assert is_signed_in(ann)  # two devices


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "javascript:alert(1)",
        "evil",
        "",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
    ],
)
def test_a_next_page_elsewhere_is_the_start_page(ann: Browser, app: FastAPI, path: str):
    assert safe_path(path) == "/"
    assert sign_in(Browser(app), next=path).headers["location"] == "/"
    assert ann.get("/sign-in", params={"next": path}).headers["location"] == "/"


@pytest.mark.parametrize("fields", [{"password": "five blue heron"}, {"email": "bob@example.org"}, {"password": ""}])
def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(ann: Browser, app: FastAPI, fields):
    answer = sign_in(Browser(app), **fields)
    assert answer.status_code == 400
    assert "The e-mail address or the password is wrong." in answer.text
    assert "instructloop-session" not in answer.headers.get("set-cookie", "")


def test_a_paused_account_gets_that_answer_too(ann: Browser, app: FastAPI, store: Store, clock: TestClock):
    store.accounts.set_state(ann.account.id, "paused", None, clock())
    assert not is_signed_in(ann)
    assert "password is wrong" in sign_in(Browser(app)).text


def test_a_password_typed_on_another_keyboard_is_the_same(visitor: Browser, app: FastAPI, store, clock: TestClock):
    """An é may be one character or two (NFC and NFD)."""
    visitor.send_form(f"/invitation/{invite(store, clock)}", **ANN | {"password": "cafe\u0301 au lait clair"})
    assert sign_in(Browser(app), "café au lait clair").status_code == 303


def test_guessing_is_slowed_down_and_a_success_ends_that(ann: Browser, app: FastAPI, clock: TestClock):
    """Five are free; then 1, 2, 4 … seconds (`store.sessions`), and even the right password waits meanwhile."""
    guesser = Browser(app)
    for number in range(6):
        assert sign_in(guesser, f"a wrong guess {number}").status_code == 400
    refused = sign_in(guesser)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert not is_signed_in(guesser)
    clock.forward(seconds=1)
    assert sign_in(guesser, "a wrong guess 7").status_code == 400
    clock.forward(seconds=1)
    assert sign_in(guesser).status_code == 429  # twice as long now
    clock.forward(seconds=1)
    assert sign_in(guesser).status_code == 303
    assert sign_in(Browser(app), "a wrong guess").status_code == 400  # not 429: counted anew


def test_an_address_that_nobody_has_is_slowed_down_just_as_much(visitor: Browser):
    statuses = [sign_in(visitor, "a wrong guess", "nobody@example.org").status_code for _ in range(8)]
    assert statuses == [400] * 6 + [429] * 2


def test_guessing_the_password_on_the_profile_is_slowed_down_too(ann: Browser):
    fields = {"password": "another fine password"}
    statuses = [ann.send_form("/profile/password", current=f"wrong {i}", **fields).status_code for i in range(8)]
    assert statuses == [400] * 6 + [429] * 2


def test_an_old_hash_is_made_anew_and_signs_nobody_out(ann: Browser, app: FastAPI, store: Store, clock: TestClock):
    before = store.accounts.password_hash(ann.account.id)
    stronger = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
    renewed = create_app(store, app.state.settings, clock=clock, passwords=Passwords(stronger))
    assert sign_in(Browser(renewed)).status_code == 303
    after = store.accounts.password_hash(ann.account.id)
    assert after is not None
    assert after != before
    assert "t=2" in after
    assert is_signed_in(ann)


@pytest.mark.parametrize(
    ("password", "error"),
    [
        ("elevenchars", "at least 12"),
        ("aaaaaaaaaaaaaaaa", "too few different"),
        ("abababababab", "too few different"),
        ("x" + "abcdefgh" * 32, "at most 256"),
        ("my name is Ann Able!", "Leave your name"),
        ("annable1234567", "Leave your name"),
    ],
)
def test_weak_passwords_are_refused(password: str, error: str):
    said = objection(password, name="Ann Able", email="annable@example.org")
    assert said is not None
    assert error in said


@pytest.mark.parametrize("password", ["five blue herons", "correct horse", "пятьсинихцапель", "x" + "abcdefgh" * 31])
def test_long_passwords_are_taken_whatever_they_are_made_of(password: str):
    assert objection(password, name="Ann", email="ann@example.org") is None


# Sessions


def test_a_session_planted_before_sign_in_is_worth_nothing_after_it(ann: Browser, app: FastAPI, store: Store):
    """Session fixation: the token changes at sign-in, and the one that was there is closed."""
    attacker = Browser(app)
    sign_in(attacker)
    planted = attacker.cookies[attacker.session_cookie]
    victim = Browser(app)
    victim.cookies.set(victim.session_cookie, planted, domain="127.0.0.1")
    answer = victim.post(
        "/sign-in",
        data={"csrf": victim.csrf, "email": "ann@example.org", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status_code == 303
    fresh = re.search(r"instructloop-session=([^;]+)", answer.headers["set-cookie"])
    assert fresh
    assert fresh[1] != planted
    assert not is_signed_in(attacker)


def test_the_token_of_a_strangers_form_is_worth_nothing_after_sign_in(ann: Browser, app: FastAPI):
    browser = Browser(app)
    before = browser.csrf
    sign_in(browser)
    assert "instructloop-visitor" not in browser.cookies
    assert browser.csrf != before
    answer = browser.post("/profile", data={"csrf": before}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 403


def test_a_token_that_somebody_made_up_opens_nothing_and_is_dropped(visitor: Browser):
    visitor.cookies.set(visitor.session_cookie, "A" * 43, domain="127.0.0.1")
    assert visitor.get("/").headers["location"] == "/sign-in"
    assert visitor.session_cookie not in visitor.cookies


def test_a_cookie_in_another_browser_is_worth_nothing(ann: Browser, app: FastAPI):
    thief = Browser(app, cookies=ann.cookies)
    assert is_signed_in(thief)
    thief.headers["User-Agent"] = AGENT + " of a thief"
    assert not is_signed_in(thief)


def test_another_role_ends_all_sessions(labeler: Browser, store: Store, clock: TestClock):
    token = labeler.cookies[labeler.session_cookie]
    store.accounts.set_role(labeler.account.id, "researcher", None, clock())
    assert not is_signed_in(labeler)
    answer = sign_in(labeler, email=str(labeler.account.email))
    assert answer.status_code == 303
    assert token not in answer.headers["set-cookie"]
    assert 'href="/research"' in labeler.get("/").text


def test_a_session_ends_after_twelve_idle_hours_and_after_fourteen_days(ann: Browser, app: FastAPI, clock: TestClock):
    clock.forward(hours=12, seconds=-1)
    assert is_signed_in(ann)
    clock.forward(hours=12)
    assert not is_signed_in(ann)
    sign_in(ann)
    began = clock()
    while clock() < began + timedelta(days=14) - timedelta(hours=6):
        clock.forward(hours=6)
        assert is_signed_in(ann)
    clock.forward(hours=6)
    assert not is_signed_in(ann)


def test_signing_out_closes_the_session_in_the_store(ann: Browser):
    token = ann.cookies[ann.session_cookie]
    answer = ann.send_form("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    assert ann.session_cookie not in ann.cookies
    ann.cookies.set(ann.session_cookie, token, domain="127.0.0.1")
    assert not is_signed_in(ann)


def test_signing_out_everywhere_closes_every_session_of_this_account_alone(
    ann: Browser, app: FastAPI, labeler: Browser
):
    phone = Browser(app)
    sign_in(phone)
    phone.send_form("/sign-out-everywhere")
    assert not is_signed_in(ann)
    assert not is_signed_in(phone)
    assert is_signed_in(labeler)


def test_another_password_ends_other_sessions_and_renews_this_one(ann: Browser, app: FastAPI):
    phone = Browser(app)
    sign_in(phone)
    token = ann.cookies[ann.session_cookie]
    assert ann.send_form("/profile/password", current="not this one", password="nine green frogs").status_code == 400
    assert ann.send_form("/profile/password", current=PASSWORD, password="short").status_code == 400
    assert is_signed_in(phone)
    assert ann.send_form("/profile/password", current=PASSWORD, password="nine green frogs").status_code == 303
    assert is_signed_in(ann)
    assert ann.cookies[ann.session_cookie] != token
    assert not is_signed_in(phone)
    assert sign_in(phone).status_code == 400
    assert sign_in(phone, "nine green frogs").status_code == 303


def test_cookies_on_loopback_are_closed_to_scripts_and_to_other_sites(ann: Browser, app: FastAPI):
    cookie = sign_in(Browser(app)).headers.get_list("set-cookie")
    (session,) = [text for text in cookie if text.startswith("instructloop-session=")]
    parts = {part.strip().lower() for part in session.split(";")[1:]}
    assert parts == {"httponly", "path=/", "samesite=lax", "max-age=1209600"}  # 14 * 24 * 3600 s


def test_cookies_behind_tls_are_secure_and_held_to_the_host(ann: Browser, store: Store, clock: TestClock):
    settings = Settings(behind_tls=True, url="https://labels.example.org")
    browser = Browser(create_app(store, settings, clock=clock, passwords=Passwords(HASHER)))
    for text in [
        *browser.get("/sign-in").headers.get_list("set-cookie"),
        *sign_in(browser).headers.get_list("set-cookie"),
    ]:
        name, _, _ = text.partition("=")
        parts = {part.strip().lower() for part in text.split(";")[1:]}
        assert name.startswith("__Host-instructloop-")
        assert {"secure", "httponly", "path=/", "samesite=lax"} <= parts
        assert not any(part.startswith("domain") for part in parts)
    assert is_signed_in(browser)


def test_what_was_said_is_said_once(ann: Browser):
    ann.send_form("/profile", language="en")
    assert "Your profile is saved." in ann.get("/profile").text
    assert "Your profile is saved." not in ann.get("/profile").text


def test_what_a_cookie_says_is_shown_and_never_run(visitor: Browser):
    visitor.cookies.set("instructloop-notice", "%3Cscript%3Ealert(1)%3C/script%3E", domain="127.0.0.1")
    page = visitor.get("/sign-in").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


# Profile


def test_a_profile_is_stored(labeler: Browser, store: Store):
    fields = {"language": ["en", "ar"], "other_languages": "fil, pt-BR", "topics": "football <b>& law</b>"}
    assert labeler.send_form("/profile", **fields).status_code == 303
    account = store.accounts.account(labeler.account.id)
    assert account is not None
    assert account.languages == ("en", "ar", "fil", "pt-BR")
    assert account.topics == "football <b>& law</b>"
    page = labeler.get("/profile").text
    assert "football &lt;b&gt;&amp; law&lt;/b&gt;" in page
    assert 'value="fil, pt-BR"' in page


def test_a_language_that_is_none_is_refused_and_the_rest_kept_in_the_form(labeler: Browser, store: Store):
    answer = labeler.send_form("/profile", other_languages="English!", topics="law")
    assert answer.status_code == 400
    assert "English!" in answer.text
    assert ">\nlaw</textarea>" in answer.text
    assert store.accounts.account(labeler.account.id).topics == ""  # type: ignore[union-attr]


def test_the_display_is_set_and_other_preferences_stay(labeler: Browser, store: Store):
    account = labeler.account
    store.accounts.set_profile(account.id, account.languages, account.topics, {"work": {"keys": "vi"}})
    labeler.send_form("/profile/display", theme="dark", direction="rtl", size="huge", unknown="x")
    stored = store.accounts.account(account.id)
    assert stored is not None
    assert stored.preferences == {"work": {"keys": "vi"}, "theme": "dark", "direction": "rtl"}
    page = labeler.get("/").text
    assert 'dir="rtl"' in page
    assert 'data-theme="dark"' in page


def test_guesses_from_one_network_are_counted_together():
    from starlette.requests import Request

    def of(host: str) -> str:
        return network(Request({"type": "http", "client": (host, 1)}))

    assert of("203.0.113.7") == "203.0.113.7"
    assert of("2001:db8:1:2:3::4") == of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert of("2001:db8:1:3::4") != of("2001:db8:1:2::4")
    assert of("testclient") == "testclient"
