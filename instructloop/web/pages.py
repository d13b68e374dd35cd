"""Pages from templates: the Jinja environment, what every page is given, and redirects that say what was done."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from instructloop.web import markdown
from instructloop.web.navigation import links
from instructloop.web.sessions import csrf_token, forget, set_cookie

STATIC = Path(__file__).parent / "static"
DASH = "\N{EN DASH}"
NOTICE_LENGTH = 300
NOTICE_SECONDS = 60


@cache
def asset(name: str) -> str:
    """Return the address of a static file with the hash of its content: it may be cached for good."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def when(time: datetime) -> Markup:
    """Return a time that is read as UTC where no script runs, and in the reader's zone where one does."""
    text = f"{time.astimezone(UTC):%d %b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(time.isoformat(timespec="seconds"), text)


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def number(value: float) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share in percent, a dash where there is none."""
    return DASH if share is None else f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("instructloop.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = asset
    environment.filters.update(when=when, duration=duration, number=number, percent=percent, markdown=markdown.render)
    return environment


ENVIRONMENT = _environment()


def render(request: Request, template: str, /, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page; the template also gets person, csrf, notice, links and path."""
    session = getattr(request.state, "session", None)
    notice = request.cookies.get(request.app.state.settings.cookie("notice"))
    page = ENVIRONMENT.get_template(template).render(
        {
            "person": session.account if session else None,
            "preferences": dict(session.account.preferences) if session else {},
            "csrf": csrf_token(request) if hasattr(request.state, "session") else "",
            "notice": unquote(notice)[:NOTICE_LENGTH] if notice else None,
            "links": links(session.account.role) if session else (),
            "path": request.url.path,
            "request_id": getattr(request.state, "request_id", ""),
        }
        | context
    )
    response = HTMLResponse(page, status_code=status)
    if notice:
        forget(request, response, "notice")
    return response


def redirect(request: Request, path: str, *, say: str | None = None) -> Response:
    """Return a redirect after a form was posted; `say` is shown once on the page that follows."""
    assert path.startswith("/"), path
    response = RedirectResponse(path, status_code=303)
    if say is not None:
        set_cookie(request, response, "notice", quote(say[:NOTICE_LENGTH]), NOTICE_SECONDS)
    return response
