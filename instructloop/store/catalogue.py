"""What labelers can be asked: prompts, completions, labelers and the tasks made of them; each added once, in bulk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, RowMapping, Table, func, insert, select, update

from instructloop.core.records import COHORTS, SPLITS, Cohort, Completion, Prompt, Split, content_id
from instructloop.store import tables as t
from instructloop.store.rows import Labeler, TaskItem, TaskKind

ROWS_PER_QUERY = 500
Values = dict[str, Any]
Item = TypeVar("Item")


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in parts small enough for one statement's parameters."""
    for start in range(0, len(items), ROWS_PER_QUERY):
        yield items[start : start + ROWS_PER_QUERY]


def rows_by_id(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, RowMapping]:
    """Return the rows of a table that have one of these ids."""
    found: dict[str, RowMapping] = {}
    for part in chunks(sorted(set(ids))):
        query = select(table).where(table.c.id.in_(part))
        found.update((str(row["id"]), row) for row in connection.execute(query).mappings())
    return found


def insert_all(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows with one statement executed many times."""
    if rows:
        connection.execute(insert(table), list(rows))


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
        check_word(f"prompt {prompt.id}: split", prompt.split or SPLITS[0], SPLITS)
        given[prompt.id] = merged(given[prompt.id], prompt) if prompt.id in given else prompt
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
    known = {key: completion_of(row) for key, row in rows_by_id(connection, t.completion, given).items()}
    for key, old in known.items():
        if old != given[key]:
            raise ValueError(f"completion {key} is known with other content")
    fresh = [completion_values(completion) for key, completion in given.items() if key not in known]
    insert_all(connection, t.completion, fresh)
    return len(fresh)


def completion_values(completion: Completion) -> Values:
    """Return the columns of a completion, whose text may be empty: a policy may stop at once."""
    if completion.text:
        check_text(f"completion {completion.id}: text", completion.text + ".")
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
        rows = [found[key] for key in sorted(found)]
    else:
        query = select(t.completion).order_by(t.completion.c.id)
        rows = list(connection.execute(query).mappings())
    return [completion_of(row) for row in rows if policy is None or row["policy"] == policy]


def require(connection: Connection, table: Table, ids: Iterable[str]) -> dict[str, RowMapping]:
    """Return the rows of these ids; ValueError naming one that is not there."""
    wanted = set(ids)
    found = rows_by_id(connection, table, wanted)
    missing = sorted(wanted - found.keys())
    if missing:
        raise ValueError(f"{table.name} {missing[0]} is not in the store ({len(missing)} unknown)")
    return found


def open_tasks(
    connection: Connection,
    task_set: str,
    kind: TaskKind,
    items: Sequence[TaskItem],
    *,
    overlap: int,
    cohort: Cohort,
    priority: int,
    now: datetime,
) -> int:
    """Insert one task per item and return how many are new; an item that is open already opens nothing.

    Raises ValueError for an unknown prompt or completion, a completion of another prompt, an overlap below 1, a known
    item with another overlap, and a task set that holds the other kind.
    """
    check_time(now)
    check_text("task set", task_set)
    check_word("kind", kind, t.TASK_KINDS)
    check_word("cohort", cohort, COHORTS)
    check_items(connection, kind, items)
    known = known_tasks(connection, task_set, kind)
    position = len(known)
    tasks: list[Values] = []
    for item in items:
        wanted = overlap if item.overlap is None else item.overlap
        if wanted < 1:
            raise ValueError(f"overlap {wanted} of prompt {item.prompt_id} must be at least 1")
        key = task_id(task_set, kind, cohort, item)
        if known.setdefault(key, wanted) != wanted:
            raise ValueError(f"task {key} is open with overlap {known[key]}, not {wanted}")
        if len(known) > position:
            tasks.append(task_values(key, task_set, kind, cohort, priority, position, wanted, now) | {"item": item})
            position += 1
    insert_tasks(connection, tasks)
    return len(tasks)


def task_id(task_set: str, kind: str, cohort: str, item: TaskItem) -> str:
    """Return the id of a task: the same question to the same cohort in the same set is the same task."""
    return content_id("task", task_set, kind, cohort, item.prompt_id, *item.completion_ids)


def task_values(
    key: str, task_set: str, kind: str, cohort: str, priority: int, position: int, overlap: int, now: datetime
) -> Values:
    """Return the columns of a task that nobody has taken yet, but for its prompt."""
    counts = {"overlap": overlap, "num_held": 0, "num_submitted": 0, "num_skipped": 0}
    names = {"id": key, "task_set": task_set, "kind": kind, "cohort": cohort}
    return names | {"priority": priority, "position": position, "opened_at": now} | counts


def insert_tasks(connection: Connection, tasks: Sequence[Values]) -> None:
    """Insert tasks, each with its item under "item", and the completions that each shows."""
    items = [cast(TaskItem, values.pop("item")) for values in tasks]
    insert_all(
        connection,
        t.task,
        [values | {"prompt_id": item.prompt_id} for values, item in zip(tasks, items, strict=True)],
    )
    insert_all(
        connection,
        t.task_completion,
        [
            {"task_id": values["id"], "position": position, "completion_id": completion_id}
            for values, item in zip(tasks, items, strict=True)
            for position, completion_id in enumerate(item.completion_ids)
        ],
    )


def known_tasks(connection: Connection, task_set: str, kind: str) -> dict[str, int]:
    """Return task id -> overlap of a set; ValueError where the set holds the other kind."""
    query = select(t.task.c.id, t.task.c.overlap, t.task.c.kind).where(t.task.c.task_set == task_set)
    rows = connection.execute(query).all()
    if rows and rows[0].kind != kind:
        raise ValueError(f"task set {task_set!r} holds tasks of kind {rows[0].kind!r}, not {kind!r}")
    return {row.id: row.overlap for row in rows}


def check_items(connection: Connection, kind: TaskKind, items: Sequence[TaskItem]) -> None:
    """Refuse items whose completions are too few, repeated, unknown or of another prompt."""
    require(connection, t.prompt, (item.prompt_id for item in items))
    completions = require(connection, t.completion, (key for item in items for key in item.completion_ids))
    for item in items:
        if kind == "demonstrate" and item.completion_ids:
            raise ValueError(f"prompt {item.prompt_id}: a demonstration is written without completions in sight")
        if kind == "compare" and len(item.completion_ids) < 2:
            raise ValueError(f"prompt {item.prompt_id}: a comparison needs at least 2 completions")
        repeated = [key for key, count in Counter(item.completion_ids).items() if count > 1]
        if repeated:
            raise ValueError(f"prompt {item.prompt_id}: completion {repeated[0]} is given twice")
        for key in item.completion_ids:
            if completions[key]["prompt_id"] != item.prompt_id:
                raise ValueError(
                    f"completion {key} answers prompt {completions[key]['prompt_id']}, not {item.prompt_id}"
                )


def task_set_kinds(connection: Connection) -> dict[str, TaskKind]:
    """Return task set -> kind, sorted by name."""
    query = select(t.task.c.task_set, func.min(t.task.c.kind)).group_by(t.task.c.task_set).order_by(t.task.c.task_set)
    return {row[0]: row[1] for row in connection.execute(query)}


def check_task_sets(connection: Connection, task_sets: Collection[str], kind: TaskKind | None = None) -> None:
    """Refuse a task set that does not exist, or one of another kind."""
    kinds = task_set_kinds(connection)
    for name in sorted(task_sets):
        if name not in kinds:
            known = ", ".join(kinds) or "none yet"
            raise ValueError(f"task set {name!r} is not in the store (there are: {known})")
        if kind is not None and kinds[name] != kind:
            raise ValueError(f"task set {name!r} holds tasks of kind {kinds[name]!r}, not {kind!r}")
