"""What people set of themselves: languages, topics they can judge, how the app looks, their password."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from instructloop.store.accounts import Accounts
from instructloop.store.people import Account
from instructloop.web.account import begin_guess, guess_keys
from instructloop.web.clock import now
from instructloop.web.languages import LANGUAGES
from instructloop.web.pages import redirect, render
from instructloop.web.passwords import MIN_LENGTH, Passwords, objection
from instructloop.web.policy import signed_in
from instructloop.web.sessions import open_session

router = APIRouter()
DISPLAY = {
    "theme": {"system": "As the system", "light": "Light", "dark": "Dark"},
    "contrast": {"system": "As the system", "more": "High"},
    "size": {"normal": "Normal", "large": "Large", "larger": "Larger"},
    "direction": {"ltr": "Left to right", "rtl": "Right to left"},
}


@router.get("/profile")
def profile(request: Request, person: Account = signed_in) -> Response:
    """Show the profile."""
    return _page(request, person)


@router.post("/profile")
def set_profile(
    request: Request,
    language: Annotated[list[str] | None, Form()] = None,
    other_languages: Annotated[str, Form()] = "",
    topics: Annotated[str, Form()] = "",
    person: Account = signed_in,
) -> Response:
    """Store languages and topics."""
    tags = [*(language or []), *(tag for tag in re.split(r"[\s,;]+", other_languages) if tag)]
    try:
        _accounts(request).set_profile(person.id, tags, topics, person.preferences)
    except ValueError as error:
        typed = {"languages": tags, "topics": topics}
        return _page(request, person, status=400, errors={"other_languages": f"{error}"}, **typed)
    return redirect(request, "/profile", say="Your profile is saved.")


@router.post("/profile/display")
async def set_display(request: Request, person: Account = signed_in) -> Response:
    """Store how the app looks; what is not known stays as it was."""
    form = await request.form()
    chosen = {name: form[name] for name, options in DISPLAY.items() if form.get(name) in options}
    preferences = dict(person.preferences) | chosen
    await run_in_threadpool(_accounts(request).set_profile, person.id, person.languages, person.topics, preferences)
    return redirect(request, "/profile", say="The display is set.")


@router.post("/profile/password")
async def set_password(
    request: Request,
    current: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    person: Account = signed_in,
) -> Response:
    """Change the password: the old one is asked for, all other sessions end, this one gets a new token."""
    passwords: Passwords = request.app.state.passwords
    accounts = _accounts(request)
    keys = guess_keys(request, person.email or "")
    if await run_in_threadpool(begin_guess, request, keys) > 0:
        return _page(request, person, status=429, errors={"current": "Too many wrong passwords; wait a little."})
    if not await passwords.is_right(await run_in_threadpool(accounts.password_hash, person.id), current):
        return _page(request, person, status=400, errors={"current": "This is not your password."})
    if (problem := objection(password, name=person.name or "", email=person.email or "")) is not None:
        await run_in_threadpool(accounts.clear_failures, keys[0])
        return _page(request, person, status=400, errors={"password": problem})
    hashed = await passwords.hash(password)
    response = redirect(request, "/profile", say="Your password is changed; other devices are signed out.")
    await run_in_threadpool(_change, request, response, person, hashed, keys[0])
    return response


def _change(request: Request, response: Response, person: Account, hashed: str, key: str) -> None:
    accounts = _accounts(request)
    accounts.set_password(person.id, hashed, now(request))
    accounts.clear_failures(key)
    open_session(request, response, person.id)


def _accounts(request: Request) -> Accounts:
    return request.app.state.store.accounts


def _page(
    request: Request,
    person: Account,
    *,
    status: int = 200,
    errors: dict[str, str] | None = None,
    languages: list[str] | None = None,
    topics: str | None = None,
) -> Response:
    chosen = list(person.languages) if languages is None else languages
    return render(
        request,
        "profile.html",
        status=status,
        errors=errors or {},
        known=LANGUAGES,
        chosen=[tag for tag in chosen if tag in LANGUAGES],
        others=[tag for tag in chosen if tag not in LANGUAGES],
        topics=person.topics if topics is None else topics,
        display=DISPLAY,
        min_length=MIN_LENGTH,
    )
