"""Settings that researchers change while people work: read one, set one; no meaning of any of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.checks import check_text, check_time


def setting(connection: Connection, name: str, default: Any = None) -> Any:
    """Return a setting's value, else the default."""
    row = connection.execute(select(p.setting.c.value).where(p.setting.c.name == name)).first()
    return default if row is None else row.value


def set_setting(connection: Connection, name: str, value: Any, *, by: str | None, now: datetime) -> None:
    """Set a setting to a JSON value, with an event of who and when."""
    check_text("setting", name)
    check_time(now)
    row = connection.execute(select(p.setting.c.value).where(p.setting.c.name == name).with_for_update()).first()
    if row is None:
        connection.execute(insert(p.setting), {"name": name, "value": value})
    else:
        connection.execute(update(p.setting).where(p.setting.c.name == name).values(value=value))
    before = None if row is None else {"value": row.value}
    record(
        connection,
        at=now,
        actor=by,
        action="setting.set",
        object_id=name,
        before=before,
        after={"value": value},
    )
