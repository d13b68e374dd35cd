"""The people of a project: invitations, accounts, roles, pause, deletion after a dry run, and the audit log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from instructloop.core.records import COHORTS, Cohort
from instructloop.store.people import Account
from instructloop.store.store import Store
from instructloop.store.tables_people import ROLES
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.pages import redirect
from instructloop.web.sections import MAY_CHANGE, MAY_READ, OWNER_ONLY, actors, show

router = APIRouter()
Role = Literal["owner", "researcher", "labeler", "auditor"]
EVENTS_PER_PAGE = 100
DAYS = (1, 7, 14, 30)


@router.get("/people")
def people_page(request: Request, person: Account = MAY_READ) -> Response:
    """Accounts and open invitations."""
    store: Store = request.app.state.store
    at = now(request)
    accounts = store.accounts.accounts()
    return show(
        request,
        person,
        "people/list.html",
        "/people",
        accounts=[one for one in accounts if one.state != "removed"],
        removed=[one for one in accounts if one.state == "removed"],
        invites=[one for one in store.accounts.invites() if one.state(at) == "open"],
    )


@router.get("/people/invite")
def invite_page(request: Request, person: Account = MAY_CHANGE) -> Response:
    """The form of an invitation."""
    return show(request, person, "people/invite.html", "/people", roles=roles_of(person), cohorts=COHORTS, days=DAYS)


@router.post("/people/invite")
def invite(
    request: Request,
    role: Annotated[Role, Form()],
    cohort: Annotated[Cohort | Literal[""], Form()] = "",
    note: Annotated[str, Form(max_length=500)] = "",
    days: Annotated[int, Form(ge=1, le=30)] = 14,
    person: Account = MAY_CHANGE,
) -> Response:
    """Make an invitation and show its link, this once: the store keeps only its hash."""
    store: Store = request.app.state.store
    if role not in roles_of(person):
        raise Problem(403, "Only the owner may invite somebody who is not a labeler.")
    made_for: Cohort | None = {"labeler": cohort or None, "researcher": "researcher"}.get(role)  # type: ignore[assignment]
    made, token = store.accounts.invite(role, made_for, note, person.id, now(request), days)
    link = f"{request.app.state.settings.origin}/invitation/{token}"
    return show(request, person, "people/invited.html", "/people", invite=made, link=link)


@router.post("/people/invitations/{invite_id}/revoke")
def revoke(request: Request, invite_id: str, person: Account = MAY_CHANGE) -> Response:
    """Take an invitation back."""
    store: Store = request.app.state.store
    store.accounts.revoke_invite(invite_id, person.id, now(request))
    return redirect(request, "/people", say="The invitation no longer works.")


@router.get("/people/{account_id}")
def account_page(request: Request, account_id: str, person: Account = MAY_READ) -> Response:
    """One account: role, state, and for the owner what a deletion would touch."""
    store: Store = request.app.state.store
    one = found(store, account_id)
    counts = store.deletion.dry_run(one.id).rows() if person.role == "owner" and one.state != "removed" else None
    events = store.audit.events(limit=20, object_id=one.id)
    return show(
        request,
        person,
        "people/account.html",
        "/people",
        one=one,
        counts=counts,
        events=events,
        roles=ROLES,
        may_pause=may_pause(person, one),
        actors=actors(store),
    )


@router.post("/people/{account_id}/role")
def set_role(
    request: Request,
    account_id: str,
    role: Annotated[Role, Form()],
    cohort: Annotated[Cohort | None, Form()] = None,
    person: Account = OWNER_ONLY,
) -> Response:
    """Give an account another role; its sessions end."""
    store: Store = request.app.state.store
    one = found(store, account_id)
    if one.id == person.id:
        raise Problem(400, "You cannot change your own role: another owner must.")
    store.accounts.set_role(one.id, role, person.id, now(request), cohort if role == "labeler" else None)
    return redirect(request, f"/people/{one.id}", say="The role is changed.")


@router.post("/people/{account_id}/state")
def set_state(
    request: Request,
    account_id: str,
    state: Annotated[Literal["active", "paused"], Form()],
    person: Account = MAY_CHANGE,
) -> Response:
    """Pause an account or let it work again."""
    store: Store = request.app.state.store
    one = found(store, account_id)
    if not may_pause(person, one):
        raise Problem(403, "You may not pause this account.")
    store.accounts.set_state(one.id, state, person.id, now(request))
    said = "The account is paused; its open sessions have ended." if state == "paused" else "The account works again."
    return redirect(request, f"/people/{one.id}", say=said)


@router.post("/people/{account_id}/remove")
def remove(
    request: Request,
    account_id: str,
    how: Annotated[Literal["pseudonymise", "purge"], Form()],
    confirmed: Annotated[str, Form()] = "",
    person: Account = OWNER_ONLY,
) -> Response:
    """Remove a person: their name and address, or with them all that they judged; typed confirmation wanted."""
    store: Store = request.app.state.store
    one = found(store, account_id)
    if one.id == person.id:
        raise Problem(400, "You cannot remove yourself: another owner must.")
    if confirmed.strip().lower() != (one.email or one.id).lower():
        raise Problem(400, "Type the person's e-mail address to confirm the removal.", field="confirmed")
    act = store.deletion.pseudonymise if how == "pseudonymise" else store.deletion.purge
    act(one.id, person.id, now(request))
    kept = "their judgements stay under a random id" if how == "pseudonymise" else "their judgements are gone too"
    return redirect(request, "/people", say=f"The person is removed; {kept}.")


@router.get("/audit")
def audit_page(
    request: Request,
    before: Annotated[int | None, Query(ge=1)] = None,
    action: Annotated[str, Query(max_length=80)] = "",
    person: Account = MAY_READ,
) -> Response:
    """Who changed what and when, newest first."""
    store: Store = request.app.state.store
    events = store.audit.events(limit=EVENTS_PER_PAGE + 1, before=before, action=action or None)
    return show(
        request,
        person,
        "people/audit.html",
        "/audit",
        events=events[:EVENTS_PER_PAGE],
        older=events[EVENTS_PER_PAGE - 1].id if len(events) > EVENTS_PER_PAGE else None,
        action=action,
        actors=actors(store),
    )


def roles_of(person: Account) -> tuple[str, ...]:
    """Return whom an account may invite."""
    return ("labeler", "researcher", "auditor", "owner") if person.role == "owner" else ("labeler",)


def may_pause(person: Account, one: Account) -> bool:
    """Return whether an account may pause another: the owner everybody else, researchers the labelers."""
    return person.id != one.id and (person.role == "owner" or (person.role == "researcher" and one.role == "labeler"))


def found(store: Store, account_id: str) -> Account:
    """Return an account, or the answer 404."""
    one = store.accounts.account(account_id)
    if one is None:
        raise Problem(404, "There is no such person.")
    return one
