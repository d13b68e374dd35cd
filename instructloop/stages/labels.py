"""What the stages of people share: tasks are opened, people work, then the answers are frozen into a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from instructloop.console import Console
from instructloop.core.records import content_id
from instructloop.runs import Run
from instructloop.store.freeze import Frozen
from instructloop.store.rows import Progress
from instructloop.store.store import Store
from instructloop.workspace import Workspace

People = Callable[[Workspace, str], None]
"""Whoever works a set of tasks at once: simulated labelers, or labels that were made elsewhere."""


class Waiting(Exception):
    """The step cannot go on until people have done their part; `progress` says how far they are."""

    def __init__(self, step: str, progress: Progress):
        self.step, self.progress = step, progress
        super().__init__(f"{step} waits for people: {so_far(progress)}")

    def __reduce__(self) -> tuple[type[Waiting], tuple[str, Progress]]:
        return Waiting, (self.step, self.progress)  # it crosses from a worker process to the main one


def so_far(progress: Progress) -> str:
    """Return how far people are, in words: judgements in and wanted, and the tasks that nobody is asked any more."""
    aside = f", {progress.num_set_aside} tasks set aside" if progress.num_set_aside else ""
    return f"{progress.num_submitted} of {progress.num_judgements_wanted} judgements are in{aside}"


def at_it(store: Store, task_set: str, now: datetime) -> list[str]:
    """Return the names of the labelers who hold a task of a set at this moment; the id of one without an account."""
    names = {account.labeler_id: account.name for account in store.accounts.accounts()}
    ids = dict.fromkeys(held.labeler_id for held in store.desk.who_is_at_it(task_set, now))
    return [names.get(labeler_id) or labeler_id for labeler_id in ids]


def task_set(round: int, name: str, config: BaseModel, parents: Mapping[str, Run]) -> str:
    """Return the name of the tasks a step opens: other prompts, completions or rules of labelling, other tasks."""
    made_from = [config.model_dump_json(), *(run.id for run in parents.values())]
    return f"r{round:02d}-{name}-{content_id('tasks', *made_from)[-8:]}"


def freeze_when_done(
    config: BaseModel,
    *,
    workspace: Workspace,
    stage: str,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    freeze: Callable[[str, Path], Frozen],
    file: str,
    console: Console,
    people: People | None,
) -> Run:
    """Freeze the answers of the step's tasks into a run whose id depends on every one of them; Waiting if some lack."""
    tasks = task_set(round, name, config, parents)
    if people is not None:
        people(workspace, tasks)
    progress = workspace.store.progress(tasks)
    if progress.num_remaining:
        raise Waiting(name, progress)
    frozen = freeze(tasks, workspace.cache / f"{tasks}.jsonl")
    run = Run.start(
        workspace.runs,
        stage,
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
        inputs={"labels": frozen.sha256},
    )
    frozen.path.replace(run.file(file))
    dropped = "".join(f", {count} {reason}" for reason, count in sorted(frozen.dropped.items()))
    console.log(f"{name}: froze {frozen.num_rows} rows of {len(progress.labelers)} labelers{dropped}")
    run.finish(file, summary={"rows": frozen.num_rows, "labelers": len(progress.labelers), "dropped": frozen.dropped})
    return run
