"""Who may do what: each route names its roles, and a route that names none cannot be served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount

from instructloop.web.errors import Problem, wants_json

ROLES = ("owner", "researcher", "labeler", "auditor")


class Policy:
    """A dependency that lets the named roles through and gives their account; `roles` None: everybody.

    Who has not agreed to the newest text of consent passes only where `before_consent` is set.
    """

    def __init__(self, roles: Iterable[str] | None, *, before_consent: bool = False):
        self.roles = None if roles is None else frozenset(roles)
        self.before_consent = before_consent
        assert self.roles is None or (self.roles and self.roles <= set(ROLES)), roles

    async def __call__(self, request: Request) -> Any:
        session = request.state.session
        if self.roles is None:
            return session.account if session else None
        if session is None:
            raise _sign_in(request)
        if session.account.role not in self.roles:
            raise Problem(403, "Your role does not allow this page.")
        if not self.before_consent:
            _check_consent(request)
        return session.account


def allow(*roles: str, before_consent: bool = False) -> Any:
    """Return the dependency that admits these roles, to be used as a default value or among a router's dependencies."""
    return Depends(Policy(roles, before_consent=before_consent))


public: Any = Depends(Policy(None))
signed_in: Any = Depends(Policy(ROLES, before_consent=True))


def policies(route: BaseRoute) -> list[Policy]:
    """Return the policies of a route, its router's included."""

    def found(dependant: Dependant) -> list[Policy]:
        own = [dependant.call] if isinstance(dependant.call, Policy) else []
        return own + [policy for below in dependant.dependencies for policy in found(below)]

    return found(route.dependant) if isinstance(route, APIRoute) else []


def check_routes(routes: Iterable[BaseRoute]) -> None:
    """Fail when a route has no policy; static files alone need none."""
    for route in routes:
        is_static = isinstance(route, Mount) and route.path == "/static"
        assert is_static or policies(route), f"route {getattr(route, 'path', route)} has no policy"


def _sign_in(request: Request) -> Exception:
    """Return where a stranger is sent: to the sign-in page and back, a program to nowhere."""
    if wants_json(request) or request.method not in ("GET", "HEAD"):
        return Problem(401, "You are signed out. Sign in again in another tab; what you wrote stays here.")
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    to = "/sign-in" if here == "/" else f"/sign-in?next={quote(here)}"
    return HTTPException(303, headers={"Location": to})


def _check_consent(request: Request) -> None:
    if not request.state.session.consent_is_due:
        return
    if wants_json(request) or request.method not in ("GET", "HEAD"):
        raise Problem(403, "The terms of this work have changed: read them at /consent first.")
    raise HTTPException(303, headers={"Location": "/consent"})
