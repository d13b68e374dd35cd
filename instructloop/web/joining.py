"""How somebody comes in: the link of an invitation, sign-up, and what a labeler agrees to before the first task."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from instructloop.store.accounts import Accounts
from instructloop.store.people import Account, Invite
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.pages import redirect, render
from instructloop.web.passwords import MIN_LENGTH, Passwords, objection
from instructloop.web.policy import allow, public, signed_in
from instructloop.web.sessions import open_session

router = APIRouter()
OVER = (
    "This invitation is not valid: it was used, was withdrawn or has run out. Ask the person who sent it for a new one."
)


@router.get("/invitation/{token}", dependencies=[public])
def invitation(request: Request, token: str) -> Response:
    """Show the sign-up form of an invitation that can still be used."""
    return _form(request, token, _open_invite(request, token))


@router.post("/invitation/{token}", dependencies=[public])
async def sign_up(
    request: Request,
    token: str,
    name: Annotated[str, Form()] = "",
    email: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
) -> Response:
    """Use the invitation up, make the account and sign it in; nothing is hashed for a link that is worth nothing."""
    invite = await run_in_threadpool(_open_invite, request, token)
    typed = {"name": name, "email": email}
    errors = {} if name.strip() else {"name": "How shall others call you?"}
    if (problem := objection(password, **typed)) is not None:
        errors["password"] = problem
    if errors:
        return _form(request, token, invite, status=400, errors=errors, **typed)
    passwords: Passwords = request.app.state.passwords
    hashed = await passwords.hash(password)
    try:
        return await run_in_threadpool(_join, request, token, name, email, hashed)
    except ValueError as error:  # the store's word on a name, an address or a link used meanwhile
        await run_in_threadpool(_open_invite, request, token)
        field = "name" if str(error).startswith("name") else "email"
        return _form(request, token, invite, status=400, errors={field: _sentence(error)}, **typed)


@router.get("/consent")
def consent(request: Request, person: Account = signed_in) -> Response:
    """Show what labelers agree to."""
    accounts: Accounts = request.app.state.store.accounts
    return render(
        request, "consent.html", consent=accounts.consent_text(), agreed=accounts.agreed_version(person.id), error=None
    )


@router.post("/consent")
def agree(
    request: Request,
    version: Annotated[int, Form()],
    agree: Annotated[str, Form()] = "",
    person: Account = signed_in,
) -> Response:
    """Store that a person agreed; a text that changed meanwhile is shown again."""
    accounts: Accounts = request.app.state.store.accounts
    newest = accounts.consent_text()
    if agree != "yes" or version != newest.version:
        error = "Tick the box if you agree." if version == newest.version else "The text has changed; read it again."
        agreed = accounts.agreed_version(person.id)
        return render(request, "consent.html", status=400, consent=newest, agreed=agreed, error=error)
    accounts.agree(person.id, version, now(request))
    return redirect(request, "/" if person.languages else "/profile", say="Thank you, that is kept.")


@router.post("/consent/text")
def write_consent(
    request: Request, markdown: Annotated[str, Form()] = "", person: Account = allow("owner")
) -> Response:
    """Publish another text: every labeler is asked again before their next task."""
    accounts: Accounts = request.app.state.store.accounts
    text = markdown.replace("\r\n", "\n").strip()
    if not text:
        raise Problem(400, "The text is empty.", field="markdown")
    if text == accounts.consent_text().markdown.strip():
        return redirect(request, "/consent", say="Nothing was changed.")
    version = accounts.set_consent(text, person.id, now(request))
    return redirect(request, "/consent", say=f"Version {version} is published; labelers are asked again.")


def _open_invite(request: Request, token: str) -> Invite:
    """Return an invitation that can be used; one answer for all that cannot, so that links tell nothing."""
    invite = request.app.state.store.accounts.find_invite(token, now(request))
    if invite is None:
        raise Problem(410, OVER)
    return invite


def _form(
    request: Request,
    token: str,
    invite: Invite,
    *,
    status: int = 200,
    errors: dict[str, str] | None = None,
    name: str = "",
    email: str = "",
) -> Response:
    return render(
        request,
        "invitation.html",
        status=status,
        token=token,
        invite=invite,
        errors=errors or {},
        name=name,
        email=email,
        min_length=MIN_LENGTH,
    )


def _join(request: Request, token: str, name: str, email: str, hashed: str) -> Response:
    account = request.app.state.store.accounts.sign_up(token, name, email, hashed, now(request))
    to = {"labeler": "/consent", "researcher": "/profile"}.get(account.role, "/")
    response = redirect(request, to, say=f"Welcome, {account.name}.")
    open_session(request, response, account.id)
    return response


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
