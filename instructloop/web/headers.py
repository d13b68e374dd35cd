"""What every answer carries: security headers, a request id; and the 500 page for what nobody caught."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from instructloop.store import audit
from instructloop.web.errors import Problem, respond

log = logging.getLogger("instructloop.web")
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"
FOREVER = "public, max-age=31536000, immutable"


class SecurityHeaders:
    """Middleware, the outermost: headers on every answer, also on refusals and faults; one log line a request."""

    def __init__(self, app: ASGIApp, *, is_secure: bool):
        self.app = app
        self.headers = HEADERS | ({"Strict-Transport-Security": HSTS} if is_secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        request_id = scope.setdefault("state", {})["request_id"] = secrets.token_hex(8)
        audit.request_id.set(request_id)

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(self.headers)
                headers["X-Request-ID"] = request_id
                headers.setdefault("Cache-Control", _caching(scope))
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            if status == 0:
                problem = Problem(503 if isinstance(error, OSError) else 500)  # OSError: the store cannot be read
                await respond(Request(scope), problem)(scope, receive, send_with_headers)
            raise  # the server writes the traceback
        finally:
            # The template of the path, never the path: invitations have their secret in it.
            path = getattr(scope.get("route"), "path", "-")
            log.info(
                "%s %s %s %d %.0f ms", request_id, scope["method"], path, status, 1e3 * (time.perf_counter() - began)
            )


def _caching(scope: Scope) -> str:
    """Return how long an answer may be kept: what people see never, files by the hash in their address."""
    if not scope["path"].startswith("/static/"):
        return "no-store"
    return FOREVER if scope["query_string"].startswith(b"v=") else "no-cache"
