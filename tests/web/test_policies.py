"""Every route says who may use it, and nobody else gets in."""

import pytest
from fastapi import APIRouter, Depends, FastAPI

from instructloop.web.policy import Policy, allow, check_routes, policies
from tests.web.conftest import Browser


def test_every_route_has_a_policy(app: FastAPI):
    routes = [route for route in app.routes if getattr(route, "path", "") != "/static"]
    assert len(routes) >= 5
    assert [route for route in routes if not policies(route)] == []


def test_an_app_with_a_route_without_a_policy_is_not_made():
    router = APIRouter()

    @router.get("/open", dependencies=[Depends(lambda: None)])
    def nothing() -> str:
        return "anybody"

    with pytest.raises(AssertionError, match="route /open has no policy"):
        check_routes(router.routes)


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
