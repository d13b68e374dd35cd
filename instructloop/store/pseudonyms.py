"""Pseudonyms of one export: the same id has one name throughout it, and none that another export knows."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any


class Pseudonyms:
    """Names made by HMAC-SHA-256 under a key that is drawn for one export and kept nowhere.

    Ids of the store follow from content, so whoever guesses a person's key could confirm the guess by them: no id of
    the store leaves it, those of prompts and rows neither. Equal texts in two exports remain equal texts.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, kind: str, identity: str) -> str:
        """Return the name of an id; a labeler who wrote a prompt is the same "person" as judge and as author."""
        digest = hmac.new(self._key, f"{kind}\x1f{identity}".encode(), hashlib.sha256)
        return f"{kind}-{digest.hexdigest()[:16]}"

    def completions(self, ids: Sequence[str]) -> list[str]:
        """Return the names of completions."""
        return [self.of("completion", one) for one in ids]

    def tiers(self, tiers: Sequence[Sequence[str]] | None) -> list[list[str]] | None:
        """Return tiers under the completions' names, in their order inside a tier too: a tie has none."""
        return None if tiers is None else [sorted(self.completions(tier)) for tier in tiers]

    def keys(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is said of completions under their names."""
        return {self.of("completion", key): value for key, value in values.items()}
