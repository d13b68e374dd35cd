"""What enters a round from outside as runs: a base model, pretraining text, labels that others collected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.runs import Run
from instructloop.stages.labels import freeze_when_done
from instructloop.stages.prompts_file import read_prompts, write_rows
from instructloop.store.freeze import Frozen, freeze_demonstrations, freeze_rankings
from instructloop.store.rows import Imported
from instructloop.workspace import Workspace

Labels = Mapping[str, Callable[[], Iterable[Any]]]
"""Origin ("import:NAME") -> its rows: ImportedDemonstration or ImportedRanking, as the configuration says."""


class ModelConfig(BaseModel):
    """A model that comes from outside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str  # where it is from, for the record


class TextConfig(BaseModel):
    """Pretraining text: how much of it is used, and how much is held out to measure the loss on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    num_heldout: int = Field(ge=0)


class LabelsConfig(BaseModel):
    """Labels that others collected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["demonstrations", "rankings"]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file: the input by which an imported file is known."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model(
    config: ModelConfig,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    convert: Callable[[Path], None],
    inputs: Mapping[str, str],
) -> Run:
    """Bring a base model in as a plain folder: `convert(folder)` writes it."""
    started = _start(config, workspace, name, round, parents, inputs)
    convert(started.file("model"))
    console.log(f"{name}: {config.source}")
    started.finish("model")
    return started


def text(
    config: TextConfig,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    documents: Callable[[], Iterable[str]],
    heldout: Callable[[], Iterable[str]],
    inputs: Mapping[str, str],
) -> Run:
    """Bring pretraining text in: `text.jsonl`, and `heldout.jsonl` on which no model is trained."""
    started = _start(config, workspace, name, round, parents, inputs)
    kept = write_rows(started.file("text.jsonl"), ({"text": one} for one in documents()))
    apart = write_rows(started.file("heldout.jsonl"), ({"text": one} for one in [*heldout()][: config.num_heldout]))
    console.log(f"{name}: {kept} documents, {apart} held out, from {config.source}")
    started.finish("text.jsonl", "heldout.jsonl", summary={"documents": kept, "held_out": apart})
    return started


def labels(
    config: LabelsConfig,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    people: Labels,
) -> Run:
    """Put labels from outside into the store with their origin, and freeze those whose prompt stage 1 kept."""
    kept = {prompt.id for prompt in read_prompts(parents["prompts"])}

    def bring(workspace: Workspace, tasks: str) -> None:
        for origin, rows in people.items():
            every = list(rows())
            fitting = [row for row in every if row.prompt.id in kept]
            done = _bring(config, workspace, tasks, origin, fitting)
            dropped = {"of prompts that cleaning dropped": len(every) - len(fitting), **done.dropped}
            reasons = "".join(f", {number} {reason}" for reason, number in dropped.items() if number)
            console.log(f"{name}: {origin}: kept {done.num_kept} of {len(every)}{reasons}")

    freeze = freeze_demonstrations if config.kind == "demonstrations" else freeze_rankings
    return freeze_when_done(
        config,
        workspace=workspace,
        stage="import",
        name=name,
        round=round,
        parents=parents,
        freeze=lambda tasks, path: _freeze(freeze, workspace, tasks, path),
        file=f"{config.kind}.jsonl",
        console=console,
        people=bring,
    )


def _freeze(freeze: Callable[..., Frozen], workspace: Workspace, tasks: str, path: Path) -> Frozen:
    return freeze(workspace.store, [tasks], cohorts=frozenset({"train"}), purpose="train", path=path)


def _bring(
    config: LabelsConfig,
    workspace: Workspace,
    tasks: str,
    origin: str,
    rows: Iterable[Any],
) -> Imported:
    bring = (
        workspace.store.import_demonstrations if config.kind == "demonstrations" else workspace.store.import_rankings
    )
    return bring(
        rows,
        origin=origin,
        labeler=origin,
        cohort="train",
        now=workspace.now(),
        task_set=tasks,
    )


def _start(
    config: BaseModel,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    inputs: Mapping[str, str],
) -> Run:
    return Run.start(
        workspace.runs,
        "import",
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
        inputs=inputs,
    )
