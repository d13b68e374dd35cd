"""The client: forms with their hidden fields, cookies, redirects, and a connection that the server closed meanwhile."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from instructloop.web.browser import Browser, Refused, Unreachable

PAGE = """<!doctype html><head><meta name="csrf-token" content="token-1"></head>
<form method="post" action="/search"><input name="q"></form>
<form method="post" action="/join"><input type="hidden" name="csrf" value="a&amp;b"><input name="name">
<input type="checkbox" name="agree" value="yes"><input type="checkbox" name="news" checked>
<input type="password" name="password"><button>Go</button></form>"""


class Site(BaseHTTPRequestHandler):
    """Answers with pages, and remembers what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar = list[tuple[str, str, str, dict[str, str]]]()

    def do_GET(self) -> None:
        self.note("")
        if self.path == "/moved":
            self.answer(303, "", Location="/there?x=1")
        elif self.path == "/out":
            self.answer(200, "", **{"Set-Cookie": 'session=""; Max-Age=0; Path=/'})
        else:
            self.answer(200, PAGE, **{"Set-Cookie": "session=s1; HttpOnly; Path=/; SameSite=lax"})

    def do_POST(self) -> None:
        self.note(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.path == "/api/wrong":
            self.answer(409, '{"error": "too late"}')
        elif self.path == "/api/none":
            self.answer(204, "")
        elif self.path == "/join":
            self.answer(303, "", Location="/welcome")
        else:
            self.answer(200, '{"ok": true}')
        if self.path == "/api/hangs-up":
            self.close_connection = True  # without a word of it in the answer

    def note(self, body: str) -> None:
        self.seen.append((self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))

    def answer(self, status: int, text: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Site.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_form_is_sent_with_its_hidden_fields_and_leads_to_the_next_page(url: str):
    browser = Browser(url)
    page = browser.get("/invitation")
    form = page.form("/join")
    assert form.kinds == {
        "csrf": "hidden",
        "name": "text",
        "agree": "checkbox",
        "news": "checkbox",
        "password": "password",
    }
    assert form.values == {"csrf": "a&b", "name": "", "news": "on", "password": ""}
    assert form.boxes == {"agree": "yes", "news": "on"}
    assert browser.send(page, form, name="Ann", agree="yes", password="p w").path == "/welcome"
    method, path, body, headers = Site.seen[1]
    assert (method, path, body) == ("POST", "/join", "csrf=a%26b&name=Ann&news=on&password=p+w&agree=yes")
    assert headers["origin"] == url
    assert headers["sec-fetch-site"] == "same-origin"
    assert headers["cookie"] == "session=s1"
    assert Site.seen[2][:2] == ("GET", "/welcome")
    with pytest.raises(ValueError, match="has no field nmae"):
        browser.send(page, form, nmae="Ann")


def test_redirects_keep_their_query_and_cookies_that_run_out_are_dropped(url: str):
    browser = Browser(url)
    assert browser.get("/moved").path == "/there?x=1"
    assert browser.cookies == {"session": "s1"}
    browser.get("/out")
    assert browser.cookies == {}


def test_json_carries_the_token_of_the_last_page_and_errors_say_what_the_app_said(url: str):
    heard = list[tuple[str, str, int]]()
    browser = Browser(url, watch=lambda method, path, seconds, status: heard.append((method, path, status)))
    browser.get("/")
    assert browser.call("POST", "/api/next", {"kind": "compare"}) == {"ok": True}
    assert Site.seen[-1][2:] == ('{"kind": "compare"}', Site.seen[-1][3])
    assert Site.seen[-1][3]["x-csrf-token"] == "token-1"
    assert browser.call("POST", "/api/none", {}) is None
    with pytest.raises(Refused, match=r"/api/wrong: too late \(409\)") as refused:
        browser.call("POST", "/api/wrong", {})
    assert refused.value.status == 409
    assert heard == [
        ("GET", "/", 200),
        *(("POST", f"/api/{name}", code) for name, code in (("next", 200), ("none", 204), ("wrong", 409))),
    ]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(url: str):
    browser = Browser(url)
    for _ in range(3):
        assert browser.call("POST", "/api/hangs-up", {}) == {"ok": True}
    assert [path for _, path, _, _ in Site.seen] == ["/api/hangs-up"] * 3


def test_a_server_that_is_away_is_said_to_be(url: str):
    browser = Browser("http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:9 does not answer"):
        browser.get("/")
    with pytest.raises(ValueError, match="must read like"):
        Browser("127.0.0.1:8800")
