"""Requests that change something come from our own pages: the browser's word for it, and a token in addition."""

from __future__ import annotations

import hmac
import json

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from instructloop.web.errors import Problem, respond
from instructloop.web.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADER = "x-csrf-token"
FIELD = "csrf"
REFUSAL = "This form is too old or came from another site. Reload the page and send it again."


class Csrf:
    """Middleware: an unsafe request must name our origin (Fetch Metadata or Origin) and carry the session's token.

    The token stands in a header, in a form's field, or, where neither can be set (sendBeacon), in the JSON body.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            if not is_ours(request, scope["app"].state.settings):
                raise Problem(403, "This request came from another site.")
            token = request.headers.get(HEADER)
            if token is None:
                body = await request.body()
                token, receive = await _token_in(request), _replayed(body, receive)
            if not hmac.compare_digest(token.encode(), expected_token(request).encode()):
                raise Problem(403, REFUSAL)
        except Problem as problem:
            await respond(request, problem)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_ours(request: Request, settings: Settings) -> bool:
    """Return whether the browser says that a page of ours sent this; no word at all is no."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None:
        return False
    return (site is None or site in ("same-origin", "none")) and (origin is None or origin in settings.origins)


def expected_token(request: Request) -> str:
    """Return the token that this request must carry."""
    from instructloop.web.sessions import csrf_token

    return csrf_token(request)


async def _token_in(request: Request) -> str:
    """Return the token in a form or a JSON body, empty where there is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        async with request.form() as form:
            value = form.get(FIELD)
            return "" if value is None or isinstance(value, UploadFile) else value
    if kind == "application/json":
        try:
            content = json.loads(await request.body())
        except (ValueError, RecursionError):
            return ""
        value = content.get(FIELD) if isinstance(content, dict) else None
        return value if isinstance(value, str) else ""
    return ""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body again to whoever comes after."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
