"""Rows of the store as files for training and evaluation: sorted JSON lines, equal rows giving equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from instructloop.core.records import Prompt
from instructloop.files import naming
from instructloop.store.rows import DemonstrationRow, RankingRow
from instructloop.store.store import Store

Purpose = Literal["train", "evaluation"]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen file, its hash, its number of rows, and the submissions left out by reason."""

    path: Path
    sha256: str
    num_rows: int
    dropped: dict[str, int]


def freeze_demonstrations(
    store: Store, task_sets: Collection[str], *, cohorts: frozenset[str], purpose: Purpose, path: Path
) -> Frozen:
    """Write the demonstrations of these cohorts to `path` as JSON lines sorted by id; ValueError as `check_purpose`.

    Only the latest revision of an accepted submission is written. For training, prompts of the test split stay out:
    their users are held out (paper 3.2).
    """
    check_purpose(cohorts, purpose)
    dropped = Counter(store.left_out(task_sets, cohorts))
    return write_lines(path, kept_lines(store.demonstrations(task_sets, cohorts), cohorts, purpose, dropped), dropped)


def freeze_rankings(
    store: Store, task_sets: Collection[str], *, cohorts: frozenset[str], purpose: Purpose, path: Path
) -> Frozen:
    """Write the rankings of these cohorts to `path`, under the same rules as `freeze_demonstrations`."""
    check_purpose(cohorts, purpose)
    dropped = Counter(store.left_out(task_sets, cohorts))
    return write_lines(path, kept_lines(store.rankings(task_sets, cohorts), cohorts, purpose, dropped), dropped)


def check_purpose(cohorts: frozenset[str], purpose: Purpose) -> None:
    """Refuse a held-out labeler's judgement in training data (paper 3.4) and a purpose that is neither."""
    if purpose not in ("train", "evaluation"):
        raise ValueError(f"purpose {purpose!r} must be 'train' or 'evaluation'")
    if purpose == "train" and "heldout" in cohorts:
        raise ValueError("cohorts: 'heldout' may not enter training data; held-out labelers judge evaluations only")


def kept_lines(
    rows: Iterator[DemonstrationRow] | Iterator[RankingRow],
    cohorts: Collection[str],
    purpose: Purpose,
    dropped: Counter[str],
) -> Iterator[bytes]:
    """Yield the lines of rows that may be frozen for this purpose and count the others."""
    for row in rows:
        assert row.cohort in cohorts
        assert purpose != "train" or row.cohort != "heldout"
        if purpose == "train" and row.prompt.split == "test":
            dropped["prompt of the test split"] += 1
            continue
        yield canonical(demonstration_line(row) if isinstance(row, DemonstrationRow) else ranking_line(row))


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


def write_lines(path: Path, lines: Iterator[bytes], dropped: Counter[str]) -> Frozen:
    """Write the file whole or not at all: beside its place, synced to disk, then renamed."""
    digest, num_rows = hashlib.sha256(), 0
    beside = path.with_name(f".{path.name}.part")
    try:
        with naming(path), beside.open("wb") as file:
            for line in lines:
                file.write(line)
                digest.update(line)
                num_rows += 1
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    return Frozen(path, digest.hexdigest(), num_rows, dict(sorted(dropped.items())))
