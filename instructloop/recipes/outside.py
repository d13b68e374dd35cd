"""People's data for a recipe: files of its data folder as the store takes them, cleaned as stage 1 cleans prompts."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from instructloop.core.prompts import normalise
from instructloop.core.transcripts import Turn, transcript, turns_of
from instructloop.formats.converting import convert
from instructloop.formats.given import GivenDemonstration, GivenPrompt, Kind
from instructloop.formats.rows import read_rows
from instructloop.recipes.label_rows import Labelled, imported
from instructloop.store.rows import ImportedDemonstration, ImportedRanking


def find_file(folder: Path, name: str) -> Path:
    """Return `folder/name` or `folder/name.gz`; ValueError says what is missing and what is there."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = (
        sorted(path.name for path in folder.parent.glob("*/*"))
        if not folder.is_dir()
        else sorted(p.name for p in folder.iterdir())
    )
    raise ValueError(f"{folder / name} is missing (also as .gz); {folder} holds {', '.join(there[:12]) or 'nothing'}")


def demonstrations(path: Path, *, origin: str) -> Iterator[ImportedDemonstration]:
    """Yield the demonstrations of a file, whatever its shape; ValueError naming file and row for one that is unfit."""
    for one in _clean(path, "demonstrations"):
        yield cast(ImportedDemonstration, imported(one, origin))


def rankings(path: Path, *, origin: str) -> Iterator[ImportedRanking]:
    """Yield the rankings of a file, as `demonstrations` does."""
    for one in _clean(path, "rankings"):
        yield cast(ImportedRanking, imported(one, origin))


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file:row, fields) of a file; ValueError names file, row and rule."""
    for row in read_rows(str(path)):
        if row.problem:
            raise ValueError(f"{path}:{row.number}: {row.problem}")
        yield f"{path.name}:{row.number}", row.fields


def paragraphs(path: Path, longest: int | None = None) -> Iterator[str]:
    """Yield the lines of a text file that are paragraphs: of 40 words or more, and at most `longest`."""
    for line in lines(path):
        if 40 <= len(line.split()) <= (longest or len(line)):
            yield line.strip()


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, gzipped or not; ValueError names the file when it is not UTF-8 text."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as opened:
        try:
            yield from opened
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: not readable text ({error})") from None


def _clean(path: Path, kind: Kind) -> Iterator[Labelled]:
    """Yield a file's labels without blanks around their texts; a recipe has nobody to show counts to, so it refuses."""
    found = convert(read_rows(str(path)), kind, source=str(path))
    if found.dropped:
        number, reason = found.dropped[0]
        raise ValueError(f"{path}:{number}: {reason} (in {len(found.dropped)} rows); `instructloop import` counts such")
    for _, one in found.kept:
        yield cleaned(cast(Labelled, one))


def cleaned(label: Labelled) -> Labelled:
    """Return a label without blanks around its texts, its prompt as stage 1 normalises prompts."""
    prompt = replace(label.prompt, text=clean_prompt(label.prompt))
    if isinstance(label, GivenDemonstration):
        return replace(label, prompt=prompt, completion=label.completion.strip())
    tiers = tuple(tuple(replace(each, text=each.text.strip()) for each in tier) for tier in label.tiers)
    return replace(label, prompt=prompt, tiers=tiers)


def clean_prompt(prompt: GivenPrompt) -> str:
    """Return a prompt's text normalised, each of its turns without blanks around it."""
    turns = [Turn(turn.role, turn.text.strip()) for turn in turns_of(prompt.text)]
    return normalise(transcript(turns))
