"""Stage 2: labelers write what a good completion would be; the answers are frozen (paper 3.4, B)."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.records import Cohort
from instructloop.runs import Run
from instructloop.stages.asking import WRITING
from instructloop.stages.labels import People, freeze_when_done, task_set
from instructloop.store.freeze import freeze_demonstrations
from instructloop.workspace import Workspace


class Config(BaseModel):
    """Which prompts get a demonstration, and from whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_train: int = Field(ge=0)  # prompts of the training users
    num_valid: int = Field(ge=0)
    sources: tuple[str, ...]  # "labeler", "customer", "import:NAME"
    cohort: Cohort
    overlap: int = Field(gt=0)  # demonstrations per prompt
    seed: int


def run(
    config: Config,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    people: People | None = None,
) -> Run:
    """Open the writing tasks (again is harmless), wait for people, freeze `demonstrations.jsonl`."""
    tasks = task_set(round, name, config, parents)
    workspace.store.open_tasks(
        tasks,
        WRITING.kind,
        WRITING.items(config, parents, name),
        overlap=config.overlap,
        cohort=config.cohort,
        now=workspace.now(),
    )
    return freeze_when_done(
        config,
        workspace=workspace,
        stage="s2_demonstrations",
        name=name,
        round=round,
        parents=parents,
        freeze=lambda task_set, path: freeze_demonstrations(
            workspace.store, [task_set], cohorts=frozenset({config.cohort}), purpose="train", path=path
        ),
        file="demonstrations.jsonl",
        console=console,
        people=people,
    )
