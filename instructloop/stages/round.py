"""One round of the loop: which step needs which, what is done, what waits for people, and doing what can be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from instructloop.console import Console
from instructloop.runs import Run, publish
from instructloop.stages.asking import Ask
from instructloop.stages.labels import Waiting, at_it, so_far, task_set
from instructloop.workspace import Workspace

Status = Literal["done", "running", "waiting", "ready", "blocked"]


@dataclass(frozen=True, slots=True)
class Step:
    """A stage under a name, with its configuration and where its parents come from; `hooks` are what is no number."""

    name: str
    run: Callable[..., Run]
    stage: str
    config: BaseModel
    parents: Mapping[str, str] = field(default_factory=dict[str, str])  # role -> name of an earlier step
    inputs: Mapping[str, str] = field(default_factory=dict[str, str])  # what comes from outside: name -> sha256
    hooks: Mapping[str, Any] = field(default_factory=dict[str, Any])
    by_people: bool = False  # frozen labels are an input too, known only once they are frozen
    asks: Ask | None = None  # what people are asked; None where labels come ready-made
    threads: int | None = None  # torch threads of this step; None: those of the recipe

    @property
    def waits_for_people(self) -> bool:
        """Whether people in the app do it: nobody is simulated and no labels come ready-made."""
        return self.by_people and "people" not in self.hooks


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe resolves to: the steps, the names under which policies are published, and how many run at once."""

    name: str
    steps: tuple[Step, ...]
    published: Mapping[str, str] = field(default_factory=dict[str, str])  # policy name -> the step that makes it
    workers: int = 1  # steps at a time
    threads: int = 2  # torch threads of each


@dataclass(frozen=True, slots=True)
class StepState:
    """Where one step stands; `detail` is a sentence for people, `needs` the steps it waits for."""

    name: str
    stage: str
    status: Status
    run_id: str | None
    detail: str
    needs: tuple[str, ...] = ()


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the steps as given; ValueError when a name stands twice or a parent is made by no earlier step."""
    known: dict[str, Step] = {}
    for step in steps:
        if step.name in known:
            raise ValueError(f"step {step.name} stands twice in the recipe")
        missing = [f"{role} = {parent}" for role, parent in step.parents.items() if parent not in known]
        if missing:
            raise ValueError(f"step {step.name} needs {', '.join(missing)}, which no earlier step makes")
        known[step.name] = step
    return tuple(known.values())


def survey(workspace: Workspace, recipe: Recipe) -> tuple[list[StepState], dict[str, Run]]:
    """Return where every step stands and the finished runs by step name; starts nothing."""
    states: list[StepState] = []
    done: dict[str, Run] = {}
    for step in ordered(recipe.steps):
        needs = tuple(dict.fromkeys(parent for parent in step.parents.values() if parent not in done))
        if needs:
            more = f" and {len(needs) - 3} more" if len(needs) > 3 else ""
            detail = f"after {', '.join(needs[:3])}{more}"
            states.append(StepState(step.name, step.stage, "blocked", None, detail, needs))
            continue
        parents = {role: done[parent] for role, parent in step.parents.items()}
        run = _find(workspace, step, parents)
        states.append(_state(workspace, step, parents, run))
        if run is not None and run.is_done:
            done[step.name] = run
    return states, done


def plan(workspace: Workspace, recipe: Recipe) -> list[StepState]:
    """Return where every step stands, in order; starts nothing."""
    return survey(workspace, recipe)[0]


def execute(workspace: Workspace, recipe: Recipe, name: str, console: Console) -> Run:
    """Do one step now; ValueError names the steps that must come first, Waiting says what people still owe."""
    step = next((step for step in recipe.steps if step.name == name), None)
    if step is None:
        raise ValueError(f"recipe {recipe.name} has no step {name}: it has {', '.join(s.name for s in recipe.steps)}")
    _, done = survey(workspace, recipe)
    missing = dict.fromkeys(parent for parent in step.parents.values() if parent not in done)
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)} first: instructloop run --until {name} does them all")
    return do(workspace, step, {role: done[parent] for role, parent in step.parents.items()}, console)


def do(workspace: Workspace, step: Step, parents: Mapping[str, Run], console: Console) -> Run:
    """Return the step's run from these parents: the one that is done already, else done now."""
    found = _find(workspace, step, parents)
    if found is not None and found.is_done:
        return found
    return step.run(
        step.config,
        workspace=workspace,
        name=step.name,
        round=workspace.round,
        parents=parents,
        console=console,
        **step.hooks,
    )


def publish_policies(workspace: Workspace, recipe: Recipe, done: Mapping[str, Run]) -> None:
    """Publish every policy that is made under its name, so that `lineage NAME` and the next round find it."""
    for name, step in recipe.published.items():
        if step in done:
            publish(workspace.runs, name, done[step])


def wanted(recipe: Recipe, until: str | None) -> set[str]:
    """Return the names of the steps that lead to `until`, itself among them; all steps for None."""
    by_name = {step.name: step for step in recipe.steps}
    if until is None:
        return set(by_name)
    if until not in by_name:
        raise ValueError(f"recipe {recipe.name} has no step {until}: it has {', '.join(by_name)}")
    found, open_ends = set[str](), [until]
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends.extend(by_name[name].parents.values())
    return found


def _find(workspace: Workspace, step: Step, parents: Mapping[str, Run]) -> Run | None:
    """Return the step's run of this round whose inputs are what it would start from, finished or not."""
    config = step.config.model_dump(mode="json")
    if step.by_people:
        return _last_frozen(workspace, step, parents, config)
    identity = Run.identify(
        step.stage, name=step.name, round=workspace.round, config=config, parents=parents, inputs=step.inputs
    )
    return Run.get(workspace.runs, identity)


def _last_frozen(workspace: Workspace, step: Step, parents: Mapping[str, Run], config: Mapping[str, Any]) -> Run | None:
    """Return the newest frozen run of the step: labels that came after the freeze wait for the next one."""
    frozen = [
        run
        for run in Run.all(workspace.runs)
        if run.is_done
        and (run.stage, run.name, run.round) == (step.stage, step.name, workspace.round)
        and run.config == config
        and {role: parent.id for role, parent in run.parents.items()} == {r: p.id for r, p in parents.items()}
    ]
    return max(frozen, key=lambda run: run.manifest.finished or "", default=None)


def _state(workspace: Workspace, step: Step, parents: Mapping[str, Run], run: Run | None) -> StepState:
    if run is not None and run.is_done:
        return StepState(step.name, step.stage, "done", run.id, "")
    if run is not None:
        return StepState(step.name, step.stage, "running", run.id, "stopped half-way or running now; `run` goes on")
    if step.waits_for_people:
        return _people_state(workspace, step, parents)
    return StepState(step.name, step.stage, "ready", None, "can run now")


def _people_state(workspace: Workspace, step: Step, parents: Mapping[str, Run]) -> StepState:
    """Return how far people are with a step's tasks, and who of them has one at this moment."""
    tasks = task_set(workspace.round, step.name, step.config, parents)
    known = {progress.task_set: progress for progress in workspace.store.task_sets()}
    if tasks not in known:
        return StepState(step.name, step.stage, "ready", None, "its tasks are not open yet")
    progress = known[tasks]
    if progress.is_done:
        detail = f"{progress.num_submitted} judgements are in: can be frozen"
        return StepState(step.name, step.stage, "ready", None, detail)
    names = ", ".join(at_it(workspace.store, tasks, workspace.now())) or "nobody"
    detail = f"{so_far(progress)}; at it now: {names}"
    return StepState(step.name, step.stage, "waiting", None, detail)


__all__ = [
    "Recipe",
    "Step",
    "StepState",
    "Waiting",
    "do",
    "execute",
    "ordered",
    "plan",
    "publish_policies",
    "survey",
    "wanted",
]
