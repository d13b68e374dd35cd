"""Random tokens, of which the store keeps only the SHA-256, and random ids."""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> str:
    """Return 256 random bits for a cookie or a link."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """Return what is stored of a token; a slow hash is for what people choose, this is random."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def random_id(kind: str, num_bytes: int = 8) -> str:
    """Return an id that says nothing about whom it names."""
    return f"{kind}-{secrets.token_hex(num_bytes)}"
