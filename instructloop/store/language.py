"""In which language a prompt is, where somebody said so: whoever wrote it, or the file it came from; never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import Connection, select

from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.bulk import insert_all

LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # the shape of a BCP 47 tag
AT_ONCE = 500
MAX_LANGUAGE = 35  # BCP 47, 4.4.1: as long as a tag needs to be


def is_language(tag: object) -> bool:
    """Return whether something has the shape of a language tag: en, pt-BR, zh-Hant."""
    return isinstance(tag, str) and len(tag) <= MAX_LANGUAGE and LANGUAGE.fullmatch(tag) is not None


def say_languages(connection: Connection, languages: Mapping[str, str]) -> int:
    """Keep the language of prompts of the store that have none yet, return how many; what was said first stays."""
    for prompt_id, tag in languages.items():
        if not is_language(tag):
            raise ValueError(f"prompt {prompt_id}: language {tag!r} must be a tag like en or pt-BR")
    said, ids, num_said = p.prompt_language, sorted(languages), 0
    for start in range(0, len(ids), AT_ONCE):
        asked = t.prompt.c.id.in_(ids[start : start + AT_ONCE])
        query = select(t.prompt.c.id).outerjoin(said, said.c.prompt_id == t.prompt.c.id)
        fresh = connection.execute(query.where(asked, said.c.prompt_id.is_(None))).scalars().all()
        insert_all(connection, said, [{"prompt_id": key, "language": languages[key]} for key in fresh])
        num_said += len(fresh)
    return num_said
