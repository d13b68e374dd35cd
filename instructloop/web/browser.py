"""A client that treats the app as a browser does: cookies, forms with their hidden fields, CSRF token, JSON calls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

Watch = Callable[[str, str, float, int], None]
"""Is told method, path, seconds and status of every answer."""

AGENT = "instructloop simulate-labelers"
REDIRECTS = (301, 302, 303, 307)


class Refused(ValueError):
    """The app answered, but not with what was asked for; `status` is HTTP's."""

    def __init__(self, status: int, path: str, sentence: str):
        self.status = status
        super().__init__(f"{path}: {sentence or 'refused'} ({status})")


class Unreachable(ConnectionError):
    """No answer came: the server is away, or went away in the middle."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a page: where it goes, its fields with the values they come with, and what sort each is."""

    action: str
    values: dict[str, str] = field(default_factory=dict[str, str])
    kinds: dict[str, str] = field(default_factory=dict[str, str])  # name -> text, email, password, checkbox, hidden …
    boxes: dict[str, str] = field(default_factory=dict[str, str])  # name -> what is sent of a box that is ticked


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML page as it was loaded: its path, after redirects, its forms and the CSRF token of its session."""

    path: str
    status: int
    text: str
    forms: tuple[Form, ...]
    csrf: str

    def form(self, action: str) -> Form:
        """Return the form that goes to a path; Refused with what the page says where it has none."""
        for form in self.forms:
            if form.action == action:
                return form
        raise Refused(self.status, self.path, f"there is no form to {action} on this page")


class Browser:
    """One browser window on `url`: its cookies, and one connection that stays open. Not for several threads at once."""

    def __init__(self, url: str, *, timeout_seconds: float = 60.0, watch: Watch | None = None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"url {url} must read like http://127.0.0.1:8800")
        self.origin = f"{parts.scheme}://{parts.netloc}"
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_seconds)
        self._watch = watch
        self.cookies: dict[str, str] = {}
        self.csrf = ""

    def get(self, path: str) -> Page:
        """Load a page."""
        return self._page("GET", path)

    def send(self, page: Page, form: Form, **fields: str) -> Page:
        """Fill a form in, send it, and return the page to which it leads."""
        if unknown := sorted(fields.keys() - form.kinds.keys()):
            raise ValueError(f"the form to {form.action} on {page.path} has no field {unknown[0]}")
        body = urlencode(form.values | fields).encode()
        return self._page("POST", form.action, body, "application/x-www-form-urlencoded")

    def call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send JSON as the app's scripts do and return the answer, None for an empty one; Refused above 399."""
        text = json.dumps(body, ensure_ascii=False).encode()
        status, answer, _ = self._exchange(method, path, text, "application/json")
        if status >= 400:
            raise Refused(status, path, sentence_in(answer))
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def _page(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Page:
        for _ in range(8):
            status, answer, where = self._exchange(method, path, body, kind)
            if status not in REDIRECTS:
                text = answer.decode()
                reader = _Reader(path)
                reader.feed(text)
                self.csrf = reader.csrf or self.csrf
                return Page(path, status, text, tuple(reader.forms), reader.csrf)
            target = urlsplit(urljoin(self.origin + path, where))
            method, body, kind = "GET", None, ""
            path = target.path + (f"?{target.query}" if target.query else "")
        raise Refused(310, path, "the app redirects in a circle")

    def _exchange(self, method: str, path: str, body: bytes | None, kind: str) -> tuple[int, bytes, str]:
        """Return status, body and Location; over a connection that the server closed meanwhile, once more."""
        headers = {"User-Agent": AGENT, "Sec-Fetch-Site": "same-origin"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            headers |= {"Content-Type": kind, "Origin": self.origin}
        if kind == "application/json":
            headers["X-CSRF-Token"] = self.csrf
        is_fresh = self._connection.sock is None
        started = time.perf_counter()
        try:
            response, content = self._once(method, path, body, headers)
        except (HTTPException, OSError) as error:
            self._connection.close()
            if is_fresh or isinstance(error, TimeoutError):
                raise Unreachable(f"{self.origin} does not answer ({type(error).__name__})") from error
            return self._exchange(method, path, body, kind)
        if self._watch is not None:
            self._watch(method, path, time.perf_counter() - started, response.status)
        for value in response.headers.get_all("Set-Cookie") or ():
            self._keep(value)
        return response.status, content, response.headers.get("Location", "")

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response, response.read()

    def _keep(self, set_cookie: str) -> None:
        """Keep a cookie, or drop one that the app makes run out."""
        name, _, rest = set_cookie.partition("=")
        value, *attributes = (part.strip() for part in rest.split(";"))
        if not value or "max-age=0" in (attribute.lower() for attribute in attributes):
            self.cookies.pop(name.strip(), None)
        else:
            self.cookies[name.strip()] = value


def sentence_in(answer: bytes) -> str:
    """Return what a JSON error says, nothing where it is no such thing."""
    try:
        content = json.loads(answer)
    except ValueError:
        return ""
    return str(content.get("error", "")) if isinstance(content, dict) else ""


class _Reader(HTMLParser):
    """Collects the forms of a page and its token; a form without an action goes to the page's own path."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.csrf = path, ""
        self.forms: list[Form] = []
        self.is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "meta" and values.get("name") == "csrf-token":
            self.csrf = values.get("content", "")
        elif tag == "form":
            self.forms.append(Form(values.get("action") or self.path.partition("?")[0]))
            self.is_inside = True
        elif self.is_inside and tag in ("input", "textarea", "select") and values.get("name"):
            form, name, kind = self.forms[-1], values["name"], values.get("type", "text")
            form.kinds[name] = kind
            if kind == "checkbox":
                form.boxes[name] = values.get("value", "on")
            if tag == "input" and (kind not in ("checkbox", "radio") or "checked" in values):
                form.values[name] = values.get("value", form.boxes.get(name, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.is_inside = False
