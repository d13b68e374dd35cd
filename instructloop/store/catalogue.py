"""Prompts, labelers and completions: each added once, in bulk, and listed by id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, RowMapping, select, update

from instructloop.core.records import CATEGORIES, COHORTS, SPLITS, Cohort, Completion, Prompt, Split
from instructloop.store import tables as t
from instructloop.store.bulk import Values, insert_all, require, rows_by_id, take_turns
from instructloop.store.checks import check_text, check_time, check_word
from instructloop.store.rows import Labeler


def prompt_of(row: RowMapping, prefix: str = "") -> Prompt:
    """Return the prompt in a row whose columns may carry a prefix."""
    names = ("id", "text", "source", "user_key", "split", "kind", "category")
    return Prompt(*(row[prefix + name] for name in names))


def completion_of(row: RowMapping) -> Completion:
    """Return the completion in a row."""
    names = ("id", "prompt_id", "text", "policy", "policy_run", "sample_index", "sampling", "is_finished")
    return Completion(*(row[name] for name in names))


def add_prompts(connection: Connection, prompts: Iterable[Prompt]) -> int:
    """Insert prompts that are new and return their number; a split or category still missing is filled in.

    Raises ValueError when a known prompt comes with another split, kind or category: a prompt that moved from test to
    train would leak.
    """
    given: dict[str, Prompt] = {}
    for prompt in prompts:
        check_text(f"prompt {prompt.id}: text", prompt.text)
        for field, value, words in (
            ("split", prompt.split, SPLITS),
            ("kind", prompt.kind, t.PROMPT_KINDS),
            ("category", prompt.category, CATEGORIES),
        ):
            if value is not None:
                check_word(f"prompt {prompt.id}: {field}", value, words)
        given[prompt.id] = merged(given[prompt.id], prompt) if prompt.id in given else prompt
    take_turns(connection)
    known = {key: prompt_of(row) for key, row in rows_by_id(connection, t.prompt, given).items()}
    fresh: list[Values] = []
    for prompt in given.values():
        if prompt.id not in known:
            fresh.append(prompt_values(prompt))
        elif (whole := merged(known[prompt.id], prompt)) != known[prompt.id]:
            connection.execute(update(t.prompt).where(t.prompt.c.id == prompt.id).values(prompt_values(whole)))
    insert_all(connection, t.prompt, fresh)
    return len(fresh)


def prompt_values(prompt: Prompt) -> Values:
    """Return the columns of a prompt."""
    return {
        "id": prompt.id,
        "text": prompt.text,
        "source": prompt.source,
        "user_key": prompt.user,
        "split": prompt.split,
        "kind": prompt.kind,
        "category": prompt.category,
    }


def merged(known: Prompt, given: Prompt) -> Prompt:
    """Return the known prompt with what it lacked; ValueError naming the field in which the two differ."""
    for field in ("text", "source", "user", "split", "kind", "category"):
        old, new = getattr(known, field), getattr(given, field)
        if old is not None and new is not None and old != new:
            raise ValueError(f"prompt {given.id} is known with {field} {old!r}, not {new!r}")
    split, category = known.split or given.split, known.category or given.category
    return Prompt(known.id, known.text, known.source, known.user, split, known.kind, category)


def list_prompts(connection: Connection, split: Split | None, source: str | None) -> list[Prompt]:
    """Return prompts sorted by id."""
    query = select(t.prompt).order_by(t.prompt.c.id)
    if split is not None:
        check_word("split", split, SPLITS)
        query = query.where(t.prompt.c.split == split)
    if source is not None:
        query = query.where(t.prompt.c.source == source)
    return [prompt_of(row) for row in connection.execute(query).mappings()]


def add_labeler(connection: Connection, labeler: Labeler, now: datetime) -> None:
    """Insert a labeler; the same again changes nothing, another cohort or origin is a ValueError."""
    check_time(now)
    check_text("labeler id", labeler.id)
    check_text("origin", labeler.origin)
    check_word(f"labeler {labeler.id}: cohort", labeler.cohort, COHORTS)
    take_turns(connection)
    row = rows_by_id(connection, t.labeler, [labeler.id]).get(labeler.id)
    if row is None:
        insert_all(
            connection,
            t.labeler,
            [{"id": labeler.id, "cohort": labeler.cohort, "origin": labeler.origin, "added_at": now}],
        )
    elif (row["cohort"], row["origin"]) != (labeler.cohort, labeler.origin):
        was = f"cohort {row['cohort']!r} and origin {row['origin']!r}"
        raise ValueError(f"labeler {labeler.id} is known with {was}, not {labeler.cohort!r} and {labeler.origin!r}")


def lock_labeler(connection: Connection, labeler_id: str) -> None:
    """Let one transaction at a time act for a labeler, where the database locks rows; ValueError for an unknown one."""
    query = select(t.labeler.c.id).where(t.labeler.c.id == labeler_id).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise ValueError(f"labeler {labeler_id!r} is not in the store")


def list_labelers(connection: Connection, cohort: Cohort | None) -> list[Labeler]:
    """Return labelers sorted by id."""
    query = select(t.labeler.c.id, t.labeler.c.cohort, t.labeler.c.origin).order_by(t.labeler.c.id)
    if cohort is not None:
        check_word("cohort", cohort, COHORTS)
        query = query.where(t.labeler.c.cohort == cohort)
    return [Labeler(row[0], row[1], row[2]) for row in connection.execute(query)]


def add_completions(connection: Connection, completions: Iterable[Completion]) -> int:
    """Insert completions that are new and return their number; a known id with other content is a ValueError."""
    given: dict[str, Completion] = {}
    for completion in completions:
        if given.setdefault(completion.id, completion) != completion:
            raise ValueError(f"completion {completion.id} is given twice with different content")
    require(connection, t.prompt, (completion.prompt_id for completion in given.values()))
    take_turns(connection)
    known = {key: completion_of(row) for key, row in rows_by_id(connection, t.completion, given).items()}
    for key, old in known.items():
        if old != given[key]:
            raise ValueError(f"completion {key} is known with other content")
    fresh = [completion_values(completion) for key, completion in given.items() if key not in known]
    insert_all(connection, t.completion, fresh)
    return len(fresh)


def completion_values(completion: Completion) -> Values:
    """Return the columns of a completion; its text is what the policy wrote, so anything, also nothing."""
    return {
        "id": completion.id,
        "prompt_id": completion.prompt_id,
        "text": completion.text,
        "policy": completion.policy,
        "policy_run": completion.policy_run,
        "sample_index": completion.index,
        "sampling": dict(completion.sampling),
        "is_finished": completion.finished,
    }


def list_completions(connection: Connection, ids: Sequence[str] | None, policy: str | None) -> list[Completion]:
    """Return completions sorted by id: those with these ids (ValueError for an unknown one), or of a policy."""
    if ids is not None:
        found = require(connection, t.completion, ids)
        return [completion_of(row) for _, row in sorted(found.items()) if policy is None or row["policy"] == policy]
    query = select(t.completion).order_by(t.completion.c.id)
    if policy is not None:
        query = query.where(t.completion.c.policy == policy)
    return [completion_of(row) for row in connection.execute(query).mappings()]
