"""Forms whose fields are not known beforehand, as those of K completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Depends, Request
from starlette.datastructures import UploadFile


async def _fields(request: Request) -> Mapping[str, str]:
    form = await request.form()
    return {key: value for key, value in form.items() if not isinstance(value, UploadFile)}


posted: Any = Depends(_fields)


def named(fields: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the fields whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
