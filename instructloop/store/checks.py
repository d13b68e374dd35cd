"""What every door of the store refuses: words outside a list, blank or broken text, times without a zone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime


def check_word(field: str, value: object, allowed: Collection[str]) -> None:
    """Refuse a value that is none of the words allowed."""
    if value not in allowed:
        raise ValueError(f"{field} {value!r} must be one of {', '.join(sorted(allowed))}")


def check_text(field: str, value: str) -> None:
    """Refuse what is no text that every database keeps byte for byte: blank, NUL, lone surrogates."""
    if not value.strip():
        raise ValueError(f"{field} is blank")
    if "\x00" in value:
        raise ValueError(f"{field} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field} is not valid Unicode: {error.reason} at character {error.start}") from error


def check_time(now: datetime) -> None:
    """Refuse a time without a zone."""
    if now.tzinfo is None:
        raise ValueError(f"now {now.isoformat()} has no time zone; pass an aware datetime")
