"""What is refused before anybody looks at it: a foreign Host header and a body that is too large."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from instructloop.web.errors import Problem, respond
from instructloop.web.settings import Settings

STRANGER_BODY_BYTES = 64 * 1024


class Hosts:
    """Middleware: only the app's own host and port may stand in the Host header (DNS rebinding, poisoned links)."""

    def __init__(self, app: ASGIApp, *, settings: Settings):
        self.app = app
        self.hosts = settings.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and Headers(scope=scope).get("host", "").lower() not in self.hosts:
            text = b"This is not the address of the labelling app.\n"
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        await self.app(scope, receive, send)


class BodyLimit:
    """Middleware: 413 for a body over the limit, whether its length is announced or not; strangers have a lower one."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int):
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_known = scope.get("state", {}).get("session") is not None
        limit = self.max_body_bytes if is_known else min(STRANGER_BODY_BYTES, self.max_body_bytes)
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced) > limit:
            await respond(Request(scope), Problem(413))(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise Problem(413)
            return message

        await self.app(scope, counted, send)
