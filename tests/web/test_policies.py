"""Every route says who may use it, and nobody else gets in."""

import re

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from instructloop.store import Store
from instructloop.web import app as app_module
from instructloop.web.navigation import links
from instructloop.web.passwords import Passwords
from instructloop.web.policy import Policy, allow, check_routes, policies
from tests.web.conftest import HASHER, Browser

SAME = {"Sec-Fetch-Site": "same-origin"}


def test_every_route_has_a_policy(app: FastAPI):
    routes = [route for route in app.routes if getattr(route, "path", "") != "/static"]
    assert len(routes) >= 5
    assert [route for route in routes if not policies(route)] == []


def test_an_app_with_a_route_without_a_policy_is_not_made(store: Store, monkeypatch: pytest.MonkeyPatch):
    router = APIRouter()

    @router.get("/open", dependencies=[Depends(lambda: None)])
    def nothing() -> str:
        return "anybody"

    monkeypatch.setattr(app_module, "ROUTERS", (router,))
    with pytest.raises(AssertionError, match="route /open has no policy"):
        app_module.create_app(store, passwords=Passwords(HASHER))


def test_a_policy_of_the_router_counts():
    router = APIRouter(dependencies=[allow("auditor")])

    @router.get("/books")
    def books() -> str:
        return "read"

    check_routes(router.routes)
    assert [policy.roles for policy in policies(router.routes[0])] == [frozenset({"auditor"})]


def test_a_role_that_does_not_exist_is_a_fault_of_ours():
    with pytest.raises(AssertionError):
        Policy(["admin"])


def test_a_stranger_is_sent_to_sign_in_and_back(visitor: Browser):
    assert visitor.get("/?tab=display").headers["location"] == "/sign-in?next=/%3Ftab%3Ddisplay"
    assert visitor.get("/").headers["location"] == "/sign-in"


def test_a_program_is_told_that_it_is_signed_out(visitor: Browser):
    answer = visitor.get("/", headers={"Accept": "application/json"})
    assert answer.status_code == 401
    assert "signed out" in answer.json()["error"]


def requests_of(app: FastAPI) -> list[tuple[str, str, frozenset[str] | None]]:
    """Return method, a path with made-up ids in it, and who is let in (None: everybody) of every route."""
    found = []
    for route in app.routes:
        if isinstance(route, APIRoute):
            path = re.sub(r"\{(\w+)(:\w+)?\}", "1", route.path)
            allowed = [policy.roles for policy in policies(route) if policy.roles is not None]
            roles = frozenset.intersection(*allowed) if allowed else None
            found += [(method, path, roles) for method in sorted(route.methods)]
    return found


def test_a_stranger_gets_into_no_route_that_is_not_public(app: FastAPI, visitor: Browser):
    csrf = visitor.csrf
    public_paths = set()
    for method, path, roles in requests_of(app):
        if roles is None:
            public_paths.add(path)
            continue
        answer = visitor.request(method, path, headers=SAME | {"X-CSRF-Token": csrf})
        where = answer.headers.get("location", "")
        assert answer.status_code == 401 or (answer.status_code == 303 and where.startswith("/sign-in")), (method, path)
    assert public_paths == {"/sign-in", "/sign-out", "/invitation/1", "/new-password/1"}


@pytest.mark.parametrize("role", ["owner", "researcher", "labeler", "auditor"])
def test_every_role_is_kept_out_of_what_is_not_its_own(app: FastAPI, client_of, role: str):
    browser = client_of(role)
    csrf = browser.csrf
    num_refused = 0
    for method, path, roles in requests_of(app):
        if roles is not None and role not in roles:
            answer = browser.request(method, path, headers=SAME | {"X-CSRF-Token": csrf})
            assert answer.status_code == 403, (method, path)
            assert "Your role does not allow this" in answer.text
            num_refused += 1
    assert num_refused >= 1


def test_auditors_change_nothing_but_their_own_account(app: FastAPI):
    own = {"/sign-in", "/sign-out", "/sign-out-everywhere", "/invitation/1", "/new-password/1", "/consent"}
    for method, path, roles in requests_of(app):
        if method not in ("GET", "HEAD") and not path.startswith("/profile") and path not in own:
            assert roles is not None
            assert "auditor" not in roles, (method, path)


@pytest.mark.parametrize("role", ["owner", "researcher", "labeler", "auditor"])
def test_every_entry_of_the_navigation_leads_to_a_page_that_the_role_may_see(client_of, role: str):
    browser = client_of(role)
    for link in links(role):
        answer = browser.get(link.path)
        assert answer.status_code in (200, 303), (link.path, answer.text)
        assert not answer.headers.get("location", "").startswith(("/sign-in", "/consent"))
        if answer.status_code == 200:
            assert f'href="{link.path}" aria-current=' in answer.text
