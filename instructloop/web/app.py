"""The app put together: its routes, what surrounds them, and the server on one address."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from instructloop.store import Store
from instructloop.web import (
    account,
    agreement,
    assignments,
    conflicts,
    exports,
    gold,
    history,
    home,
    instructions,
    joining,
    labelers,
    next_step,
    people,
    profile,
    recovery,
    research,
    screening,
    search,
    tasks,
    work,
    writing,
)
from instructloop.web.clock import Clock, utc_now
from instructloop.web.csrf import Csrf
from instructloop.web.errors import add_handlers
from instructloop.web.headers import SecurityHeaders
from instructloop.web.limits import BodyLimit, Hosts
from instructloop.web.loop import Loop
from instructloop.web.pages import STATIC
from instructloop.web.passwords import Passwords
from instructloop.web.policy import check_routes
from instructloop.web.sessions import Sessions
from instructloop.web.settings import Settings

log = logging.getLogger("instructloop.web")
ROUTERS: tuple[APIRouter, ...] = (
    home.router,
    account.router,
    joining.router,
    profile.router,
    recovery.router,
    work.router,
    assignments.router,
    writing.router,
    history.router,
    research.router,
    tasks.router,
    next_step.router,
    agreement.router,
    labelers.router,
    conflicts.router,
    search.router,
    gold.router,
    screening.router,
    instructions.router,
    people.router,
    exports.router,
)


def create_app(
    store: Store | str | Path,
    settings: Settings | None = None,
    *,
    folder: Path = Path(),
    loop: Loop | None = None,
    clock: Clock = utc_now,
    passwords: Passwords | None = None,
) -> FastAPI:
    """Return the app over a store or the address of one; files of exports go into `folder`.

    `loop` is what researchers let go on; None where nobody waits for them. Fails when a route has no policy.
    """
    settings = settings or Settings()
    app = FastAPI(
        title="instructloop",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would redirect to the scheme that the proxy in front speaks with us
        middleware=_surroundings(settings),
    )
    app.state.store = store if isinstance(store, Store) else Store.open(store)
    app.state.settings = settings
    app.state.folder = folder
    app.state.loop = loop
    app.state.clock = clock
    app.state.passwords = passwords or Passwords()
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    check_routes(app.routes)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_handlers(app)
    return app


def _surroundings(settings: Settings) -> list[Middleware]:
    """Return what every request passes through, outermost first."""
    return [
        Middleware(SecurityHeaders, is_secure=settings.behind_tls),
        Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies)),
        Middleware(Hosts, settings=settings),
        Middleware(Sessions),
        Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes),
        Middleware(Csrf),
    ]
