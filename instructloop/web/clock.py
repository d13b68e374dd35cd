"""The time as the app sees it: tests set it, the server takes it from the system."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.requests import HTTPConnection

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the system's time in UTC."""
    return datetime.now(UTC)


def now(connection: HTTPConnection) -> datetime:
    """Return the time at this request, as the app's clock tells it."""
    return connection.app.state.clock()
