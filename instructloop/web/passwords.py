"""Passwords: argon2id in a few threads of their own, and which ones are taken."""

from __future__ import annotations

import unicodedata

import anyio
from anyio import to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH = 12
MAX_LENGTH = 256
MIN_DISTINCT = 5
NUM_HASHES_AT_ONCE = 3  # each takes 64 MiB (RFC 9106, low memory)


class Passwords:
    """Hashes and checks passwords without ever holding up other requests: those that wait take no thread."""

    def __init__(self, hasher: PasswordHasher | None = None):
        self._hasher = hasher or PasswordHasher()
        self._limiter = anyio.CapacityLimiter(NUM_HASHES_AT_ONCE)
        self._decoy = self._hasher.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Return the hash to store."""
        return await to_thread.run_sync(self._hasher.hash, normal(password), limiter=self._limiter)

    async def is_right(self, stored: str | None, password: str) -> bool:
        """Return whether a password is the stored one; an account that is not there takes as long as one that is."""
        found = await to_thread.run_sync(self._verify, stored or self._decoy, normal(password), limiter=self._limiter)
        return found and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Return whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def normal(password: str) -> str:
    """Return a password in the one form in which it is hashed: keyboards write é in two ways (NFC)."""
    return unicodedata.normalize("NFC", password[: MAX_LENGTH + 1])


def objection(password: str, *, name: str = "", email: str = "") -> str | None:
    """Return why a password is not taken, None when it is fine: length counts, symbols are nobody's business."""
    text = normal(password).casefold()
    if len(text) < MIN_LENGTH:
        return f"Use at least {MIN_LENGTH} characters; a few words in a row are fine."
    if len(text) > MAX_LENGTH:
        return f"Use at most {MAX_LENGTH} characters."
    if len(set(text)) < MIN_DISTINCT:
        return "These are too few different characters."
    own = [part for part in (name.casefold().strip(), email.casefold().partition("@")[0]) if len(part) >= 4]
    if any(part in text for part in own):
        return "Leave your name and your address out of it."
    return None
