"""A new password for who forgot theirs: a one-time link, which a researcher or owner makes and hands over."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from instructloop.store.accounts import Accounts
from instructloop.store.people import Account
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.pages import redirect, render
from instructloop.web.passwords import MIN_LENGTH, Passwords, objection
from instructloop.web.policy import allow, public
from instructloop.web.sessions import open_session

router = APIRouter()
OVER = "This link is not valid: it was used or has run out. Ask the person who sent it for a new one."


@router.get("/new-password/{token}", dependencies=[public])
def new_password_form(request: Request, token: str) -> Response:
    """Show the form of a link that can still be used."""
    return _form(request, token, _account(request, token))


@router.post("/new-password/{token}", dependencies=[public])
async def set_new_password(request: Request, token: str, password: Annotated[str, Form()] = "") -> Response:
    """Use the link up, set the password, end all sessions and open one here."""
    account = await run_in_threadpool(_account, request, token)
    error = objection(password, name=account.name or "", email=account.email or "")
    if error is not None:
        return _form(request, token, account, status=400, error=error)
    passwords: Passwords = request.app.state.passwords
    hashed = await passwords.hash(password)
    return await run_in_threadpool(_use, request, token, hashed)


@router.post("/people/{account_id}/password-link")
def make_link(request: Request, account_id: str, person: Account = allow("owner", "researcher")) -> Response:
    """Make a link for somebody whom this person may manage, and show it once."""
    accounts = _accounts(request)
    account = accounts.account(account_id)
    if account is None or account.state == "removed":
        raise Problem(404, "There is no such account.")
    token = accounts.password_link(account_id, person.id, now(request))
    link = f"{request.app.state.settings.origin}/new-password/{token}"
    return render(request, "password_link.html", account=account, link=link)


def _account(request: Request, token: str) -> Account:
    """Return whose link this is; one answer for all that are worth nothing."""
    account = _accounts(request).find_password_link(token, now(request))
    if account is None:
        raise Problem(410, OVER)
    return account


def _use(request: Request, token: str, hashed: str) -> Response:
    try:
        account = _accounts(request).use_password_link(token, hashed, now(request))
    except ValueError as error:  # used meanwhile, or the account was paused
        raise Problem(410, OVER) from error
    response = redirect(request, "/", say="Your new password is set; other devices are signed out.")
    open_session(request, response, account.id)
    return response


def _form(request: Request, token: str, account: Account, *, status: int = 200, error: str | None = None) -> Response:
    context = {"token": token, "account": account, "error": error, "min_length": MIN_LENGTH}
    return render(request, "new_password.html", status=status, **context)


def _accounts(request: Request) -> Accounts:
    return request.app.state.store.accounts
