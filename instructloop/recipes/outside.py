"""Reading data that people made elsewhere, in the shapes of the ecosystem; a bad row is refused by file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructloop.core.prompts import normalise
from instructloop.core.records import Prompt
from instructloop.store.rows import ImportedDemonstration, ImportedRanking

TURNS = {"prompter": "Human", "user": "Human", "human": "Human", "assistant": "Assistant"}


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


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, gzipped or not; ValueError names the file when it is not UTF-8 text."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as opened:
        try:
            yield from opened
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: not readable text ({error})") from None


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file:line, row) of a JSONL file, gzipped or not; ValueError names file, line and rule."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a row must be a JSON object, found {type(row).__name__}")
                yield f"{path.name}:{number}", row
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}:{number or 1}: not a readable row ({error})") from None


def text_of(prompt: Any, where: str) -> str:
    """Return a prompt as one text: a string as it is, one turn as its text, several as a Human/Assistant transcript."""
    if isinstance(prompt, str):
        turns = prompt.split("\n\nHuman: ")
        if len(turns) == 2 and not turns[0].strip() and prompt.rstrip().endswith("\n\nAssistant:"):
            return turns[1].rstrip().removesuffix("\n\nAssistant:").strip()  # one turn of Anthropic's transcripts
        return prompt.strip()
    if not isinstance(prompt, Sequence) or not prompt:
        raise ValueError(f"{where}: prompt must be a text or a list of turns, found {type(prompt).__name__}")
    turns = [(_speaker(turn, where), str(turn.get("text", turn.get("content", "")))) for turn in prompt]
    if len(turns) == 1:
        return turns[0][1].strip()
    return "".join(f"\n\n{speaker}: {text.strip()}" for speaker, text in turns).strip() + "\n\nAssistant:"


def _speaker(turn: Mapping[str, Any], where: str) -> str:
    role = turn.get("role")
    if role not in TURNS:
        raise ValueError(f"{where}: role {role!r} of a turn must be one of {', '.join(TURNS)}")
    return TURNS[role]


def demonstrations(path: Path, *, origin: str) -> Iterator[ImportedDemonstration]:
    """Yield the demonstrations of a file of `{"prompt", "completion"}` rows."""
    for where, row in rows(path):
        _require(row, ("prompt", "completion"), where)
        prompt = _prompt(text_of(row["prompt"], where), row, origin)
        yield ImportedDemonstration(prompt, str(row["completion"]).strip(), labeler=row.get("labeler"))


def rankings(path: Path, *, origin: str) -> Iterator[ImportedRanking]:
    """Yield the rankings of a file: `ranked` texts best first, `completions` with ranks, or `chosen` and `rejected`.

    Equal ranks, or equal `votes` beside `ranked`, are ties. A transcript whose prompt stands only inside `chosen` and
    `rejected` (Anthropic HH) is split at its last turn.
    """
    for where, row in rows(path):
        texts, tiers = _ranked(row, where)
        prompt = row.get("prompt", row.get("context"))
        if prompt is None and "chosen" in row:
            prompt, texts = _implicit_prompt(texts, where)
        if prompt is None:
            raise ValueError(f"{where}: a ranking needs a prompt; the fields are {', '.join(sorted(row))}")
        yield ImportedRanking(_prompt(text_of(prompt, where), row, origin), texts, tiers, labeler=row.get("labeler"))


def _ranked(row: Mapping[str, Any], where: str) -> tuple[list[str], list[list[int]]]:
    """Return the completions' texts and their tiers as positions, best first."""
    if "ranked" in row:
        texts = [str(text).strip() for text in row["ranked"]]
        worth = [-float(votes) for votes in row["votes"]] if "votes" in row else [float(i) for i in range(len(texts))]
    elif "completions" in row:
        texts = [str(one["completion"]).strip() for one in row["completions"]]
        worth = [float(one["rank"]) for one in row["completions"]]
    else:
        _require(row, ("chosen", "rejected"), where)
        texts, worth = [str(row["chosen"]).strip(), str(row["rejected"]).strip()], [0.0, 1.0]
    if len(worth) != len(texts):
        raise ValueError(f"{where}: {len(texts)} completions and {len(worth)} ranks")
    return texts, [[i for i, value in enumerate(worth) if value == place] for place in sorted(set(worth))]


def _implicit_prompt(texts: Sequence[str], where: str) -> tuple[str, list[str]]:
    marker = "\n\nAssistant:"
    prompts = {text[: text.rfind(marker) + len(marker)] for text in texts if marker in text}
    if len(prompts) != 1:
        raise ValueError(f"{where}: chosen and rejected share no prompt that ends in 'Assistant:'")
    prompt = prompts.pop()
    return "\n\n" + prompt.lstrip(), [text[len(prompt) :].strip() for text in texts]


def _prompt(text: str, row: Mapping[str, Any], origin: str) -> Prompt:
    """Return the prompt; where the data name no user, each prompt is a user of its own."""
    return Prompt.make(normalise(text), source=origin, user=str(row.get("user") or f"{origin}/{row.get('id') or text}"))


def _require(row: Mapping[str, Any], fields: Sequence[str], where: str) -> None:
    if missing := [field for field in fields if field not in row]:
        raise ValueError(f"{where}: missing {', '.join(missing)}; the fields are {', '.join(sorted(row)) or 'none'}")
