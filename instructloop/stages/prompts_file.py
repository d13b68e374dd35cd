"""Reading the JSONL files that stages hand on, and drawing prompts from them by seed; no cleaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from instructloop.core.records import Prompt, Split
from instructloop.files import naming
from instructloop.runs import Run


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file; ValueError names file and line of a row that is no JSON object."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: a row must be a JSON object, found {type(row).__name__}")
            yield row


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows as canonical JSONL (sorted keys, UTF-8); return how many."""
    count = 0
    with naming(path), path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
            count += 1
    return count


def prompts_digest(prompts: Iterable[Prompt]) -> str:
    """Return the SHA-256 that stands for raw prompts among a run's inputs: their ids hold source, user and text."""
    return hashlib.sha256("\n".join(prompt.id for prompt in prompts).encode()).hexdigest()


def read_prompts(run: Run) -> list[Prompt]:
    """Return the prompts of a finished stage 1."""
    return [Prompt(**row) for row in read_rows(run.file("prompts.jsonl"))]


def draw(
    prompts: Sequence[Prompt], number: int | None, *, split: Split, sources: Sequence[str], seed: int, what: str
) -> list[Prompt]:
    """Return `number` prompts (None: all) of a split and some sources, in an order by seed and prompt alone.

    A prompt's place is a hash, so one prompt more changes the draw by one prompt. ValueError when too few are there.
    """
    fitting = [prompt for prompt in prompts if prompt.split == split and prompt.source in sources]
    if len(fitting) < (number or 1):
        wanted = f"{what} wants {number or 'some'} {split} prompts of {', '.join(sources)}"
        raise ValueError(f"{wanted}; there are {len(fitting)} after cleaning")
    return sorted(fitting, key=lambda p: hashlib.sha256(f"{seed}/{what}/{p.id}".encode()).digest())[:number]
