"""What a frozen file says of each row, and which rows may be used for what; no SQL and no file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, TypeVar

from instructloop.core.records import Prompt
from instructloop.store.rows import DemonstrationRow, RankingRow

Purpose = Literal["train", "evaluation"]
Row = TypeVar("Row", DemonstrationRow, RankingRow)


def check_purpose(cohorts: frozenset[str], purpose: Purpose) -> None:
    """Refuse a held-out labeler's judgement in training data (paper 3.4) and a purpose that is neither."""
    if purpose not in ("train", "evaluation"):
        raise ValueError(f"purpose {purpose!r} must be 'train' or 'evaluation'")
    if purpose == "train" and "heldout" in cohorts:
        raise ValueError("cohorts: 'heldout' may not enter training data; held-out labelers judge evaluations only")


def kept(rows: Iterable[Row], cohorts: Collection[str], purpose: Purpose, dropped: Counter[str]) -> Iterator[Row]:
    """Yield the rows that may be used for this purpose and count the others."""
    for row in rows:
        assert row.cohort in cohorts
        assert purpose != "train" or row.cohort != "heldout"
        if purpose == "train" and row.prompt.split == "test":
            dropped["prompt of the test split"] += 1
        else:
            yield row


def canonical(line: dict[str, Any]) -> bytes:
    """Return one JSON line: keys sorted, no spaces, UTF-8."""
    return json.dumps(line, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def demonstration_line(row: DemonstrationRow) -> dict[str, Any]:
    """Return what is frozen of a demonstration: no time, so the same work gives the same bytes on any day."""
    return head(row.prompt) | {
        "id": row.id,
        "completion": row.text,
        "labeler": row.labeler,
        "cohort": row.cohort,
        "origin": row.origin,
        "task_set": row.task_set,
    }


def ranking_line(row: RankingRow) -> dict[str, Any]:
    """Return what is frozen of a ranking; null is a question that was not answered."""
    return head(row.prompt) | {
        "id": row.id,
        "labeler": row.labeler,
        "cohort": row.cohort,
        "origin": row.origin,
        "task_set": row.task_set,
        "completions": [{"id": c.id, "text": c.text, "policy": c.policy} for c in row.completions],
        "shown": row.shown,
        "tiers": row.tiers,
        "ratings": row.ratings,
        "flags": row.flags,
    }


def head(prompt: Prompt) -> dict[str, Any]:
    """Return what every frozen row says of its prompt."""
    return {
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "split": prompt.split,
        "category": prompt.category,
        "user": prompt.user,
    }
