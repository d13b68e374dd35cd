"""People as the app sees them, as plain records: accounts, invitations, sessions, consent; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from instructloop.core.records import Cohort

Role = Literal["owner", "researcher", "labeler", "auditor"]
AccountState = Literal["active", "paused", "removed"]
InviteState = Literal["open", "used", "revoked", "expired"]


class NotAllowed(ValueError):
    """The one who asks has no right to do this."""


@dataclass(frozen=True, slots=True)
class Account:
    """One person who may sign in; name and email are None once the person was removed."""

    id: str
    role: Role
    state: AccountState
    labeler_id: str | None  # under which they judge; owners and auditors do not
    cohort: Cohort | None  # of that labeler
    email: str | None
    name: str | None
    languages: tuple[str, ...]
    topics: str
    preferences: Mapping[str, Any]
    created_at: datetime
    removed_at: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether they may sign in and work."""
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation to sign up once, for a role and a cohort; its token is only ever seen by who made it."""

    id: str
    role: Role
    cohort: Cohort | None
    note: str
    created_by: str | None  # None: the operator, at the first start
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by: str | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> InviteState:
        """Return whether it can still be used, and if not, why."""
        if self.used_at is not None:
            return "used"
        if self.revoked_at is not None:
            return "revoked"
        return "open" if now < self.expires_at else "expired"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser signed in; `csrf_token` goes into its forms, the token of its cookie is nowhere in the store."""

    account: Account
    csrf_token: str = field(repr=False)
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    consent_is_due: bool  # a labeler has not agreed to the newest text


@dataclass(frozen=True, slots=True)
class Consent:
    """What people agree to before they begin; version 1 is the text that comes with the package."""

    version: int
    markdown: str
