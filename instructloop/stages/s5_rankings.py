"""Stage 5: labelers rate, flag and rank the completions of a prompt; the answers are frozen (paper 3.5, Figure 12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.records import Cohort
from instructloop.runs import Run
from instructloop.stages.asking import RANKING
from instructloop.stages.labels import People, freeze_when_done, task_set
from instructloop.store.freeze import freeze_rankings
from instructloop.workspace import Workspace


class Config(BaseModel):
    """Who ranks, how many labelers see one task, and what the rankings may be used for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cohort: Cohort
    purpose: Literal["train", "evaluation"]
    overlap: int = Field(gt=0)  # labelers per task; the paper: mostly one
    shared_fraction: float = Field(ge=0, le=1)  # of tasks that several labelers see, to measure agreement
    shared_overlap: int = Field(gt=0)
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
    """Open the ranking tasks (again is harmless), wait for people, freeze `rankings.jsonl` with its ties."""
    workspace.store.open_tasks(
        task_set(round, name, config, parents),
        RANKING.kind,
        RANKING.items(config, parents, name),
        overlap=config.overlap,
        cohort=config.cohort,
        now=workspace.now(),
    )
    return freeze_when_done(
        config,
        workspace=workspace,
        stage="s5_rankings",
        name=name,
        round=round,
        parents=parents,
        freeze=lambda tasks, path: freeze_rankings(
            workspace.store, [tasks], cohorts=frozenset({config.cohort}), purpose=config.purpose, path=path
        ),
        file="rankings.jsonl",
        console=console,
        people=people,
    )
