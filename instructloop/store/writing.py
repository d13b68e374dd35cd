"""Prompts that labelers write themselves: plain, few-shot and user-based (paper 3.2, A.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from instructloop.core.prompts import normalise
from instructloop.core.records import Kind, Prompt
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.catalogue import add_prompts, lock_labeler, prompt_of
from instructloop.store.checks import check_text, check_time, check_word

LEAST_PAIRS = 2
"""A few-shot prompt asks for one pair's completion and shows the others."""

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class WrittenPrompt:
    """A labeler's own prompt and what it was made from."""

    prompt: Prompt
    instruction: str
    pairs: tuple[tuple[str, str], ...]  # query, completion; empty unless few-shot
    use_case: str  # empty unless user-based
    written_at: datetime


def write_prompt(
    connection: Connection,
    labeler_id: str,
    kind: Kind,
    instruction: str,
    pairs: Pairs,
    use_case: str,
    now: datetime,
) -> Prompt:
    """Add a labeler's own prompt, source "labeler", the labeler as its user; the same again changes nothing.

    Its split is open until stage 1 splits by user. A prompt of the same text that was made otherwise is a ValueError.
    """
    check_time(now)
    check_parts(kind, instruction, pairs, use_case)
    lock_labeler(connection, labeler_id)
    text = normalise(few_shot_text(instruction, pairs) if kind == "few_shot" else instruction)
    prompt = Prompt.make(text, source="labeler", user=labeler_id, kind=kind)
    made_from = {"instruction": instruction, "pairs": [list(pair) for pair in pairs], "use_case": use_case}
    table = p.written_prompt
    known = connection.execute(select(table).where(table.c.prompt_id == prompt.id)).mappings().first()
    if known is not None:
        if any(known[field] != value for field, value in made_from.items()):
            raise ValueError("you have written a prompt of this text before, from other parts")
        return prompt
    add_prompts(connection, [prompt])
    values = {"prompt_id": prompt.id, "labeler_id": labeler_id, "written_at": now}
    connection.execute(insert(table), values | made_from)
    return prompt


def check_parts(kind: Kind, instruction: str, pairs: Pairs, use_case: str) -> None:
    """Refuse parts that are blank, and those that this kind of prompt has no place for."""
    check_word("kind", kind, t.PROMPT_KINDS)
    check_text("instruction", instruction)
    if kind == "few_shot" and len(pairs) < LEAST_PAIRS:
        raise ValueError(f"pairs: a few-shot prompt needs at least {LEAST_PAIRS}, not {len(pairs)}")
    if kind != "few_shot" and pairs:
        raise ValueError(f"pairs: a {kind} prompt has none")
    for i, (query, completion) in enumerate(pairs, start=1):
        check_text(f"pairs: query {i}", query)
        check_text(f"pairs: completion {i}", completion)
    if kind == "user_based":
        check_text("use_case", use_case)
    elif use_case:
        raise ValueError(f"use_case: a {kind} prompt has none")


def few_shot_text(instruction: str, pairs: Pairs) -> str:
    """Return the instruction, every pair but the last as an example, and the last query, which is left to complete.

    The paper makes one training example of each pair in turn (A.1); the others can be made from the stored parts.
    """
    *examples, (query, _) = pairs
    shown = [f"{asked.strip()}\n{completion.strip()}" for asked, completion in examples]
    return "\n\n".join([instruction.strip(), *shown, query.strip()])


def written(connection: Connection, labeler_id: str, limit: int) -> list[WrittenPrompt]:
    """Return a labeler's own prompts, newest first."""
    made = p.written_prompt
    query = (
        select(t.prompt, made.c.instruction, made.c.pairs, made.c.use_case, made.c.written_at)
        .join(made, made.c.prompt_id == t.prompt.c.id)
        .where(made.c.labeler_id == labeler_id)
        .order_by(made.c.written_at.desc(), made.c.prompt_id)
        .limit(limit)
    )
    return [
        WrittenPrompt(
            prompt_of(row),
            row["instruction"],
            tuple((asked, completion) for asked, completion in row["pairs"]),
            row["use_case"],
            row["written_at"],
        )
        for row in connection.execute(query).mappings()
    ]
