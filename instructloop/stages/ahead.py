"""What the loop would do next, up to the point where people are asked again; does nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from instructloop.runs import Run
from instructloop.stages.labels import task_set
from instructloop.stages.round import Recipe, Step, survey, wanted
from instructloop.store.rows import TaskKind
from instructloop.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Opening:
    """The tasks that a step would open; how many is None while the steps before it are not done."""

    step: str
    kind: TaskKind
    cohort: str
    num_tasks: int | None
    num_judgements: int | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What `run --until OPENING` would do: `steps` in order, those in `frozen` by freezing people's answers.

    `opening` None: no tasks are left to open in this round, and what is ahead leads to its end. `waits_for` names the
    task sets, by step, whose answers must all be in before.
    """

    round: int
    opening: Opening | None
    steps: tuple[str, ...]
    frozen: tuple[str, ...]
    waits_for: Mapping[str, str]


def look(workspace: Workspace, recipe: Recipe) -> Ahead:
    """Return what is ahead: the first step of people whose tasks are not open and whose way is clear, else the first.

    Without any such step what is left of the round is ahead.
    """
    _, done = survey(workspace, recipe)
    is_complete = {progress.task_set: progress.is_done for progress in workspace.store.task_sets()}
    asked = {
        step.name: tasks
        for step in recipe.steps
        if step.waits_for_people and step.name not in done and (tasks := _tasks(workspace, step, done)) in is_complete
    }
    unasked = [s for s in recipe.steps if s.asks and s.waits_for_people and s.name not in {*done, *asked}]

    def waits_for(until: str | None) -> dict[str, str]:
        return {name: tasks for name, tasks in asked.items() if name in wanted(recipe, until)}

    def is_clear(step: Step) -> bool:
        return all(is_complete[tasks] for tasks in waits_for(step.name).values())

    target = next(filter(is_clear, unasked), unasked[0] if unasked else None)
    until = target and target.name
    steps = [s.name for s in recipe.steps if s.name in wanted(recipe, until) - done.keys() and s.name != until]
    return Ahead(
        round=workspace.round,
        opening=target and _opening(target, done),
        steps=tuple(steps),
        frozen=tuple(name for name in steps if name in asked),
        waits_for=waits_for(until),
    )


def _parents(step: Step, done: Mapping[str, Run]) -> dict[str, Run] | None:
    """Return a step's parents by role; None while one is not done."""
    if not done.keys() >= set(step.parents.values()):
        return None
    return {role: done[parent] for role, parent in step.parents.items()}


def _tasks(workspace: Workspace, step: Step, done: Mapping[str, Run]) -> str | None:
    parents = _parents(step, done)
    return None if parents is None else task_set(workspace.round, step.name, step.config, parents)


def _opening(step: Step, done: Mapping[str, Run]) -> Opening:
    assert step.asks is not None
    cohort, overlap = (getattr(step.config, field) for field in ("cohort", "overlap"))
    parents = _parents(step, done)
    if parents is None:
        return Opening(step.name, step.asks.kind, cohort, None, None)
    items = step.asks.items(step.config, parents, step.name)
    judgements = sum(item.overlap or overlap for item in items)
    return Opening(step.name, step.asks.kind, cohort, len(items), judgements)
