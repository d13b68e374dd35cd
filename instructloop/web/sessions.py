"""Who is asking: the session of a cookie, opened at sign-in, closed at sign-out; the store has only its hash."""

from __future__ import annotations

import hashlib
import secrets

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from instructloop.store import Store
from instructloop.store.people import Session
from instructloop.web.clock import now

MAX_AGE_SECONDS = 14 * 24 * 3600
TOKEN_LENGTHS = range(32, 129)


def digest(text: str) -> str:
    """Return the SHA-256 of a text, in hex: what the store keeps in place of secrets and addresses."""
    return hashlib.sha256(text.encode()).hexdigest()


def agent_hash(connection: HTTPConnection) -> str:
    """Return the hash of the browser's name: a cookie that turns up in another browser is worth nothing."""
    return digest(connection.headers.get("user-agent", ""))


class Sessions:
    """Middleware: `request.state.session`, or None; gives strangers a cookie for forms."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        state = request.state
        state.session, state.fresh_visitor = None, None
        token = _cookie(request, "session")
        if token is not None:
            state.session = await run_in_threadpool(_find, request, token)

        is_over = token is not None and state.session is None

        async def send_with_cookies(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if state.fresh_visitor is not None:
                    headers.append("set-cookie", _cookie_line(request, "visitor", state.fresh_visitor))
                if is_over and not any(_is_session(request, line) for line in headers.getlist("set-cookie")):
                    headers.append("set-cookie", _cookie_line(request, "session", "", 0))
            await send(message)

        await self.app(scope, receive, send_with_cookies)


def _find(request: Request, token: str) -> Session | None:
    return _store(request).accounts.find_session(token, agent_hash(request), now(request))


def csrf_token(request: Request) -> str:
    """Return the token that forms must carry: the session's, or for a stranger one that follows from their cookie."""
    if request.state.session is not None:
        return request.state.session.csrf_token
    visitor = _cookie(request, "visitor") or request.state.fresh_visitor
    if visitor is None:
        visitor = request.state.fresh_visitor = secrets.token_urlsafe(32)
    return digest(f"csrf:{visitor}")


def open_session(request: Request, response: Response, account_id: str) -> None:
    """Sign in: a new token whatever cookies came (no fixation), the old session of this browser closed."""
    accounts = _store(request).accounts
    old = _cookie(request, "session")
    if old is not None:
        accounts.close_session(old)
    token, _ = accounts.open_session(account_id, agent_hash(request), now(request))
    set_cookie(request, response, "session", token, MAX_AGE_SECONDS)
    forget(request, response, "visitor")


def close_session(request: Request, response: Response) -> None:
    """Sign out: the session is gone from the store, not only from the browser."""
    token = _cookie(request, "session")
    if token is not None:
        _store(request).accounts.close_session(token)
    forget(request, response, "session")


def forget(request: Request, response: Response, name: str) -> None:
    """Make the browser drop one of our cookies."""
    set_cookie(request, response, name, "", 0)


def _store(request: HTTPConnection) -> Store:
    return request.app.state.store


def _cookie(request: HTTPConnection, name: str) -> str | None:
    value = request.cookies.get(request.app.state.settings.cookie(name))
    return value if value is not None and len(value) in TOKEN_LENGTHS else None


def set_cookie(request: HTTPConnection, response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """Add one of our cookies to an answer."""
    response.headers.append("set-cookie", _cookie_line(request, name, value, max_age))


def _cookie_line(request: HTTPConnection, name: str, value: str, max_age: int | None = None) -> str:
    """Return what makes a browser keep a cookie: this host's, no script's, no other site's."""
    settings = request.app.state.settings
    line = f"{settings.cookie(name)}={value}; Path=/; HttpOnly; SameSite=Lax"
    line += "" if max_age is None else f"; Max-Age={max_age}"
    return line + ("; Secure" if settings.behind_tls else "")


def _is_session(request: HTTPConnection, line: str) -> bool:
    return line.startswith(request.app.state.settings.cookie("session") + "=")
