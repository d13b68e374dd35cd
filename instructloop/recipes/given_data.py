"""A user's file as a run that stages read: frozen rows, some held out by prompt, every row counted; no store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop import files
from instructloop.console import Console
from instructloop.core.records import Split, content_id
from instructloop.recipes.given_rows import File, Kept, read_files
from instructloop.runs import Run
from instructloop.store.frozen_lines import demonstration_line
from instructloop.store.rows import DemonstrationRow, RankingRow
from instructloop.workspace import Workspace


class Config(BaseModel):
    """How a file is read and what of it is held out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["demonstrations", "rankings", "prompts"]
    name: str  # the origin is import:NAME
    shape: str | None  # None: as the fields say
    fields: dict[str, str]  # our field -> the file's
    prompt: str | None  # for rows whose prompt is blank
    valid_fraction: float | None = Field(gt=0, lt=1)  # of the prompts, by hash; None: another file is held out
    num_zeros: int = Field(gt=0)  # best completions of rankings whose scores are put at 0 on average
    seed: int

    @property
    def origin(self) -> str:
        return f"import:{self.name}"


def run(
    config: Config,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    inputs: Mapping[str, str],
    sources: Mapping[Split, str],
) -> Run:
    """Write the rows of `sources` ("train", perhaps "valid") as the stages read them, and `dropped.jsonl`.

    Rankings bring `demonstrations.jsonl` too: the best completions of some prompts, which stage 6 puts at 0.
    """
    read = read_files(config, sources)
    _split(config, read)
    kept = sorted(
        chain.from_iterable(file.kept for file in read.values()), key=lambda one: (one.row.prompt.id, one.number)
    )
    started = Run.start(
        workspace.runs,
        "import",
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
        inputs=inputs,
    )
    files.write_jsonl(started.file(f"{config.kind}.jsonl"), (one.line() for one in kept))
    files.write_jsonl(started.file("dropped.jsonl"), _dropped(read))
    outputs = [f"{config.kind}.jsonl", "dropped.jsonl"]
    if config.kind == "rankings":
        files.write_jsonl(started.file("demonstrations.jsonl"), map(demonstration_line, _zeros(config, kept)))
        outputs.append("demonstrations.jsonl")
    for split, source in sources.items():
        console.log(f"{name}: {account(source, read[split])}")
    splits = Counter(one.row.prompt.split for one in kept)
    console.log(f"{name}: {splits['train']} rows to learn from, {splits['valid']} held out")
    facts = {split: file.facts for split, file in read.items()}
    return started.finish(*outputs, summary={"train": splits["train"], "valid": splits["valid"], "files": facts})


def account(source: str, file: File) -> str:
    """Return in words what became of a file's rows."""
    facts = file.facts
    dropped = "".join(f", {number} {reason}" for reason, number in facts["dropped"].items())
    kept = f"{facts['read']} rows of shape {facts['shape']} read from {Path(source).name}, {facts['kept']} kept"
    return f"{kept}; dropped: {dropped[2:] or 'none'}"


def digest(source: str) -> str:
    """Return the SHA-256 of a file or folder; of a data set of the hub that of its name."""
    return files.hash_path(Path(source)) if Path(source).exists() else content_id("hub", source)


def _split(config: Config, read: Mapping[Split, File]) -> None:
    """Give every row its split: a share of the prompts by hash, or one file each; ValueError when too few are there.

    A held-out row of which something is learned (`given_rows.group_keys`) is dropped.
    """
    if config.valid_fraction is not None:
        rows = read["train"].kept
        keys = sorted({one.key for one in rows}, key=lambda key: content_id("held out", str(config.seed), key))
        if len(keys) < 2:
            raise ValueError("all rows tell of each other, so none can be held out: bring more prompts, or --eval FILE")
        held = frozenset(keys[: max(1, round(config.valid_fraction * len(keys)))])
        for one in rows:
            one.put("valid" if one.key in held else "train")
        return
    learned = {one.key for one in read["train"].kept}
    valid = read["valid"]
    valid.dropped += [(one.number, "held out, but learned from too") for one in valid.kept if one.key in learned]
    valid.kept = [one for one in valid.kept if one.key not in learned]
    if not valid.kept:
        raise ValueError("every row of the file that is held out stands among those that are learned from")
    for split, file in read.items():
        for one in file.kept:
            one.put(split)


def _zeros(config: Config, kept: Iterable[Kept]) -> Sequence[DemonstrationRow]:
    """Return the best completions of some training rows, drawn by hash, as if they had been demonstrated."""
    best: dict[tuple[str, str], DemonstrationRow] = {}
    for one in kept:
        row = one.row
        assert isinstance(row, RankingRow)
        if row.prompt.split == "train":
            text = next(each.text for each in row.completions if each.id == row.tiers[0][0])
            identity = content_id("best", row.prompt.id, text)
            best[row.prompt.id, text] = DemonstrationRow(
                identity, row.prompt, text, row.labeler, row.cohort, row.origin, row.task_set
            )
    drawn = sorted(best.values(), key=lambda row: hashlib.sha256(f"{config.seed}/{row.id}".encode()).digest())
    return drawn[: config.num_zeros]


def _dropped(read: Mapping[Split, File]) -> Iterable[dict[str, Any]]:
    for split, file in read.items():
        yield from ({"file": split, "row": number, "reason": why} for number, why in sorted(file.dropped))
