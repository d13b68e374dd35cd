"""How a simulated labeler comes into the app: an invitation from the store, sign-up, consent; later a sign-in."""

from __future__ import annotations

import json
import os
import secrets
from datetime import datetime
from pathlib import Path

from instructloop.core.records import Cohort
from instructloop.files import write_atomic
from instructloop.store import Store
from instructloop.store.membership import SIMULATED
from instructloop.web.browser import Browser, Form, Page, Refused

GONE = 410
DOMAIN = "simulated.invalid"  # a name that no network will ever know (RFC 2606)


def email_of(name: str) -> str:
    """Return the address under which a simulated labeler has their account."""
    return f"{name}@{DOMAIN}"


def shared_password(file: Path) -> str:
    """Return the password of a workspace's simulated labelers: random, made once, in a file of its owner alone."""
    if not file.exists():
        write_atomic(file, json.dumps({"password": secrets.token_urlsafe(24)}) + "\n")
        os.chmod(file, 0o600)
    return json.loads(file.read_text(encoding="utf-8"))["password"]


def come_in(store: Store, browser: Browser, name: str, cohort: Cohort, *, password: str, now: datetime) -> str:
    """Sign up by a fresh invitation, or in where there is an account, agree to the consent; return the labeler's id."""
    email = email_of(name)
    if store.accounts.account_by_email(email) is None:
        _, token = store.accounts.invite("labeler", cohort, SIMULATED, None, now)
        page = browser.get(f"/invitation/{token}")
        if page.status == GONE:
            raise ValueError(f"the app at {browser.origin} does not know the store of --dir: it serves another one")
        page = fill_in(browser, page, page.path, name=name, email=email, password=password)
    else:
        page = browser.get("/sign-in")
        page = fill_in(browser, page, "/sign-in", email=email, password=password)
    if page.status >= 400:
        raise Refused(page.status, page.path, f"{name} does not get in")
    page = browser.get("/consent")
    if any(form.action == "/consent" for form in page.forms):
        fill_in(browser, page, "/consent")
    account = store.accounts.account_by_email(email)
    if account is None or account.labeler_id is None:
        raise ValueError(f"{email} has no account in the store of --dir: does the app at {browser.origin} serve it?")
    if account.cohort != cohort:
        raise ValueError(f"{email} is in cohort {account.cohort}, not in {cohort}")
    return account.labeler_id


def fill_in(browser: Browser, page: Page, action: str, **known: str) -> Page:
    """Send a page's form: fields by name, every password field with the password, every box ticked."""
    form = page.form(action)
    fields = {
        name: value for name, kind in form.kinds.items() if (value := _value(form, name, kind, known)) is not None
    }
    return browser.send(page, form, **fields)


def _value(form: Form, name: str, kind: str, known: dict[str, str]) -> str | None:
    if kind == "password":
        return known.get("password")
    if kind == "checkbox":
        return form.boxes[name]
    return known.get(name)
