"""Signing in and out; how one gets an account is in `joining`, what one sets there in `profile`."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from instructloop.store import Store
from instructloop.store.accounts import Accounts
from instructloop.store.people import Account
from instructloop.store.sessions import guess_key
from instructloop.web.clock import now
from instructloop.web.pages import redirect, render
from instructloop.web.passwords import Passwords
from instructloop.web.policy import public, signed_in
from instructloop.web.sessions import close_session, forget, open_session

router = APIRouter()
WRONG = "The e-mail address or the password is wrong."


def safe_path(path: str) -> str:
    """Return a path of this app to go to next, the start page for anything that could lead elsewhere."""
    is_ours = path.startswith("/") and not path.startswith("//") and path.isprintable()
    return path if is_ours and "\\" not in path else "/"  # browsers read \ as /


def network(request: Request) -> str:
    """Return from where guesses are counted together: an address, of IPv6 the 64 bits that one customer has."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network(f"{host}/64", strict=False)) if address.version == 6 else host


@router.get("/sign-in")
def sign_in_form(request: Request, person: Account | None = public, next: str = "/") -> Response:  # noqa: A002
    """Show the sign-in page; who is signed in goes on."""
    if person is not None:
        return redirect(request, safe_path(next))
    return render(request, "sign_in.html", next=safe_path(next), email="", error=None)


@router.post("/sign-in", dependencies=[public])
async def sign_in(
    request: Request,
    email: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002 - the word that everybody has in such an address
) -> Response:
    """Open a session; the answer does not tell whether there is such an account."""
    store: Store = request.app.state.store
    keys = guess_keys(request, email)
    wait = await run_in_threadpool(begin_guess, request, keys)
    if wait > 0:
        return _wait(request, wait, email, next)
    account = await run_in_threadpool(store.accounts.account_by_email, email)
    if not await _is_right(request, account, password):
        await run_in_threadpool(store.accounts.record_failure, keys[1], now(request))
        return render(request, "sign_in.html", status=400, next=safe_path(next), email=email, error=WRONG)
    assert account is not None
    response = redirect(request, safe_path(next))
    await run_in_threadpool(_finish, request, response, account, keys[0])
    return response


def guess_keys(request: Request, email: str) -> tuple[str, str]:
    """Return under which keys a guess of a password counts: the account's and the address's."""
    return guess_key("account", email), guess_key("address", network(request))


def begin_guess(request: Request, keys: tuple[str, str]) -> float:
    """Return how many seconds to wait; else count the guess before it is known to be wrong: many come at once."""
    accounts: Accounts = request.app.state.store.accounts
    wait = max(accounts.failures(key, now(request)) for key in keys)
    if wait <= 0:
        accounts.record_failure(keys[0], now(request))
    return wait


def _wait(request: Request, wait: float, email: str, next: str) -> Response:  # noqa: A002
    seconds = int(wait) + 1
    text = f"Too many wrong passwords. Wait {seconds} s, then try again."
    response = render(request, "sign_in.html", status=429, next=safe_path(next), email=email, error=text)
    response.headers["Retry-After"] = str(seconds)
    return response


async def _is_right(request: Request, account: Account | None, password: str) -> bool:
    """Return whether somebody may come in; an old hash is made anew on the way."""
    passwords: Passwords = request.app.state.passwords
    accounts: Accounts = request.app.state.store.accounts
    stored = None
    if account is not None and account.is_active:
        stored = await run_in_threadpool(accounts.password_hash, account.id)
    if not await passwords.is_right(stored, password) or account is None or stored is None:
        return False
    if passwords.is_outdated(stored):
        fresh = await passwords.hash(password)
        await run_in_threadpool(accounts.set_password, account.id, fresh, now(request), end_sessions=False)
    return True


def _finish(request: Request, response: Response, account: Account, key: str) -> None:
    request.app.state.store.accounts.clear_failures(key)
    open_session(request, response, account.id)


@router.post("/sign-out", dependencies=[public])
def sign_out(request: Request) -> Response:
    """Close this session."""
    response = redirect(request, "/sign-in", say="You are signed out.")
    close_session(request, response)
    return response


@router.post("/sign-out-everywhere")
def sign_out_everywhere(request: Request, person: Account = signed_in) -> Response:
    """Close all sessions of the account, this one too."""
    request.app.state.store.accounts.close_all_sessions(person.id)
    response = redirect(request, "/sign-in", say="You are signed out on all devices.")
    forget(request, response, "session")
    return response
