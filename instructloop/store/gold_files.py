"""Tasks of screening and calibration, with their gold, from a file of JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection

from instructloop.core.records import Cohort, Completion, Prompt
from instructloop.files import read_jsonl
from instructloop.store import gold
from instructloop.store.catalogue import add_completions, add_prompts
from instructloop.store.rows import Imported, TaskItem, TaskKind
from instructloop.store.screening_reports import GoldForm, GoldPurpose
from instructloop.store.tasks import task_id

FIELDS = {"prompt", "completions", "tiers", "flags", "why"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line made ready: a prompt to write for, or completions to compare with what is right about them."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    form: GoldForm | None

    @property
    def item(self) -> TaskItem:
        """Return the question as a task."""
        return TaskItem(self.prompt.id, tuple(one.id for one in self.completions))


def import_sets(
    connection: Connection,
    path: Path,
    *,
    purpose: GoldPurpose,
    cohort: Cohort,
    num_people: int,
    by: str,
    now: datetime,
) -> Imported:
    """Open a task for each line, with its gold; ValueError names the line that is no good, and nothing is kept."""
    lines: list[Line] = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            lines.append(line_of(row, f"import:{purpose}"))
        except ValueError as error:
            raise ValueError(f"{path.name}, row {number}: {error}") from error
    add_prompts(connection, (line.prompt for line in lines))
    add_completions(connection, (completion for line in lines for completion in line.completions))
    writing = [line.item for line in lines if not line.completions]
    if writing and purpose != "screening":
        raise ValueError("a line without completions is a demonstration to write, which is for screening alone")
    comparing = [line for line in lines if line.completions]
    task_set = gold.SCREENING if purpose == "screening" else gold.CALIBRATION
    sets: list[tuple[str, TaskKind, list[TaskItem]]] = [
        (gold.SCREENING_WRITING, "demonstrate", writing),
        (task_set, "compare", [line.item for line in comparing]),
    ]
    num_new = sum(
        gold.open_sets(connection, name, kind, items, cohort=cohort, num_people=num_people, by=by, now=now)
        for name, kind, items in sets
        if items
    )
    for line in comparing:
        if line.form is not None:
            gold.set_gold(connection, task_id(task_set, "compare", cohort, line.item), line.form, by=by, now=now)
    known = len(lines) - num_new
    return Imported(len(lines), num_new, {"open already": known} if known else {})


def line_of(row: Mapping[str, Any], source: str) -> Line:
    """Return what a line says; ValueError for a field that is unknown or of the wrong kind."""
    unknown = sorted(row.keys() - FIELDS)
    if unknown:
        raise ValueError(f"field {unknown[0]!r} is none of {', '.join(sorted(FIELDS))}")
    text, why = row.get("prompt"), row.get("why", "")
    if not isinstance(text, str) or not isinstance(why, str):
        raise ValueError("prompt and why must be text")
    prompt = Prompt.make(text, source=source, user=source)
    texts = listed(row, "completions")
    if not all(isinstance(one, str) for one in texts) or len(set(texts)) < len(texts) or len(texts) == 1:
        raise ValueError("completions must be two or more different texts")
    completions = tuple(
        Completion.make(prompt.id, one, policy="unknown", policy_run=source, index=0, sampling={}, finished=True)
        for one in texts
    )
    return Line(prompt, completions, form_of(row, [one.id for one in completions], why))


def form_of(row: Mapping[str, Any], ids: Sequence[str], why: str) -> GoldForm | None:
    """Return the gold that a line states, None where it states none."""
    tiers, flags = listed(row, "tiers"), listed(row, "flags")
    if not tiers and not flags:
        return None
    if flags and len(flags) != len(ids):
        raise ValueError(f"{len(flags)} objects of flags for {len(ids)} completions")
    if not all(isinstance(one, dict) for one in flags):
        raise ValueError("flags must be one object for each completion")
    places: list[Any] = [
        place for tier in tiers for place in (cast(list[Any], tier) if isinstance(tier, list) else [None])
    ]
    if tiers and sorted(places, key=str) != sorted(range(len(ids)), key=str):
        raise ValueError(f"tiers must be lists of the positions 0 to {len(ids) - 1}, each once")
    ordered: list[tuple[str, ...]] = [tuple(ids[int(place)] for place in tier) for tier in tiers]
    return GoldForm(
        tiers=tuple(ordered),
        flags=dict(zip(ids, flags, strict=bool(flags))),
        why=why,
    )


def listed(row: Mapping[str, Any], field: str) -> list[Any]:
    """Return a field that must be a list, empty where it is absent."""
    value = row.get(field, [])
    if not isinstance(value, list):
        raise ValueError(f"{field} must be a list")
    return cast(list[Any], value)
