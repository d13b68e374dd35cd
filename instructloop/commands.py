"""What the verbs of the command do: make or open a workspace, run steps, say how it stands; cli reads what is typed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console as Screen

from instructloop import tables
from instructloop.console import Console, open_console
from instructloop.recipes import NAMES, load
from instructloop.runs import Run, lineage
from instructloop.workspace import DATABASE, FILE, WhoLabels, Workspace, parse_set, suggestion

if TYPE_CHECKING:
    from instructloop.stages.round import Recipe, StepState


class Usage(Exception):
    """What was typed cannot be meant: exit code 2."""


def command(verb: str, directory: Path) -> str:
    """Return a command as one types it, for messages that say what to do next."""
    return f"instructloop {verb}" + ("" if directory == Path() else f" --dir {directory}")


def make(directory: Path, recipe: str, *, seed: int, data: Path | None, people: WhoLabels = "simulated") -> Workspace:
    """Make a workspace; Usage for an unknown recipe and for data that is missing or of no effect."""
    if recipe not in NAMES:
        raise Usage(f"recipe {recipe!r} is unknown{suggestion(recipe, NAMES)}")
    if recipe == "real" and data is None:
        raise Usage("recipe real needs --data FOLDER: where your demonstrations and rankings are")
    if recipe == "microworld" and data is not None:
        raise Usage("--data has no effect on recipe microworld, whose labelers are simulated")
    return Workspace.create(directory, recipe, seed=seed, data=data, people=people)


def who_labels(word: str) -> WhoLabels:
    """Return who does people's part; Usage for another word than those of loop.yaml."""
    for known in get_args(WhoLabels):
        if word == known:
            return known
    raise Usage(f"--people {word!r} is unknown{suggestion(word, get_args(WhoLabels))}")


def open_workspace(directory: Path, settings: Sequence[str] | None = None) -> Workspace:
    """Return the workspace with what `--set` says over its loop.yaml; Usage for a setting in another form."""
    workspace = Workspace.open(directory)
    try:
        return workspace.with_overrides(parse_set(settings or ()))
    except ValueError as error:
        raise Usage(str(error)) from error


def show_status(workspace: Workspace, *, as_json: bool = False) -> None:
    """Say where every step stands and what is next, to people or as JSON to a program."""
    from instructloop.stages.ahead import look
    from instructloop.stages.round import plan

    recipe = load(workspace)
    states = plan(workspace, recipe)
    if as_json:
        found = {"steps": [asdict(state) for state in states], "ahead": asdict(look(workspace, recipe))}
        print(json.dumps(found, ensure_ascii=False))
    else:
        say_states(workspace, states)


def run_loop(workspace: Workspace, until: str | None = None) -> list[StepState]:
    """Do all that needs no people, up to the step `until`; return where every step stands then."""
    from instructloop.stages import engine

    names = [step.name for step in load(workspace).steps]
    if until is not None and until not in names:
        raise Usage(f"--until {until}: there is no such step{suggestion(until, names)}")
    with open_console() as console:
        return engine.run(workspace, load, console, until=until)


def run_stage(workspace: Workspace, stage: str, only: str | None) -> list[StepState]:
    """Do the steps of a stage whose parents are there; ValueError when there is none to do, naming what comes first."""
    from instructloop.stages import round as loop

    recipe = load(workspace)
    states = [state for state in loop.plan(workspace, recipe) if state.stage == stage]
    if only is not None and only not in [state.name for state in states]:
        names = ", ".join(state.name for state in states) or "none in this recipe"
        raise Usage(f"{only} is no step of stage {stage}; its steps are {names}")
    chosen = [state for state in states if only in (None, state.name)]
    blocked = [state for state in chosen if state.status == "blocked"]
    if blocked and len(blocked) == len(chosen):
        needs = dict.fromkeys(need for state in blocked for need in state.needs)
        until = command(f"run --until {blocked[-1].name}", workspace.root)
        raise ValueError(f"{only or stage} needs {', '.join(needs)} first: {until} does all it needs, and it")
    with open_console() as console:
        for state in chosen:
            if state.status not in ("done", "blocked"):
                _do(workspace, recipe, state.name, console)
    loop.publish_policies(workspace, recipe, loop.survey(workspace, recipe)[1])
    return [state for state in loop.plan(workspace, recipe) if state.stage == stage]


def whole_loop(directory: Path, recipe: str, *, seed: int, data: Path | None) -> None:
    """Make the workspace or go on with the one that is there, run everything, show the figures."""
    if (directory / FILE).exists():
        workspace = open_workspace(directory)
        if (workspace.recipe, workspace.seed) != (recipe, seed):
            raise ValueError(
                f"{directory / FILE} is of recipe {workspace.recipe}, seed {workspace.seed}, not of {recipe}, {seed}: "
                f"choose another --dir or delete that folder"
            )
    else:
        workspace = make(directory, recipe, seed=seed, data=data)
    states = run_loop(workspace)
    if any(state.status != "done" for state in states):
        say_states(workspace, states)
    say_report(workspace)


def simulate(workspace: Workspace, url: str, *, num_train: int, seed: int | None, speed: float | None) -> None:
    """Let simulated labelers work in the app at `url`, then say what is next."""
    from instructloop.simulated.visit import visit

    with open_console() as console:
        visit(workspace, url, console, num_train=num_train, seed=seed, speed=speed)
    print(f"next: {command('run', workspace.root)}   goes on from what they submitted")


def serve(directory: Path, **settings: Any) -> None:
    """Serve the labelling app of a workspace until it is stopped; Usage for settings that are unsafe or unclear."""
    try:
        from instructloop.web.loop import Loop
        from instructloop.web.serving import serve as serve_app
        from instructloop.web.settings import read_settings
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: pip install 'instructloop[web]' brings it") from error
    try:
        read = read_settings(**settings)
    except ValueError as error:
        raise Usage(str(error)) from error
    workspace = Workspace.open(directory)
    if os.environ.get(DATABASE) and not workspace.waits_for_people:
        where = directory / FILE
        raise Usage(f"{DATABASE} has no effect: people are simulated in {where}. Unset it, or say `people: app` there")
    loop = Loop(workspace.root, (sys.executable, "-m", "instructloop")) if workspace.waits_for_people else None
    try:
        serve_app(workspace.store, read, folder=workspace.root, loop=loop, say=lambda line: print(line, flush=True))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the labelling app is stopped; what people saved is kept") from stop


def show_lineage(workspace: Workspace, name: str, *, full: bool, verify: bool) -> None:
    """Print the ancestors of a run with their hashes; with `verify` every file is hashed again first."""
    tree = lineage(Run.find(workspace.runs, name))
    for ancestor in tables.ancestors(tree).values() if verify else ():
        ancestor.verify()
    _screen().print(tables.lineage_tree(tree, full=full))
    if verify:
        print("every file of these runs is what it was when its run finished")


def show_report(workspace: Workspace, *, open_it: bool) -> None:
    """Print where the page of the latest evaluation is; with `open_it` show it in the browser."""
    page = _report_page(workspace)
    if page is None:
        raise ValueError(f"no evaluation is done yet: {command('run', workspace.root)} makes one")
    print(page)
    if open_it:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            raise ValueError(f"no browser can be opened here; open {page} yourself")


def say_states(workspace: Workspace, states: Sequence[StepState]) -> None:
    """Print where steps stand and what is next."""
    screen = _screen()
    screen.print(tables.status_table(states, workspace.runs))
    said = tables.next_line(states, command("run", workspace.root), command("web", workspace.root))
    screen.print(said, markup=False, soft_wrap=True)


def say_report(workspace: Workspace) -> None:
    """Print the figures of the latest evaluation and where its page is, when there is one."""
    page = _report_page(workspace)
    if page is not None:
        from instructloop.evals.report import summary_table

        _screen().print(summary_table(json.loads(page.with_name("report.json").read_text(encoding="utf-8"))))
        copy = workspace.root / "report.html"
        print(f"report: {copy if copy.exists() else page}")


def _do(workspace: Workspace, recipe: Recipe, step: str, console: Console) -> None:
    """Do one step here, with as many threads as `run` would give it: its numbers depend on that."""
    from instructloop.stages.engine import use_threads
    from instructloop.stages.labels import Waiting
    from instructloop.stages.round import execute

    use_threads(recipe, step)
    try:
        with console.step(step):
            execute(workspace, recipe, step, console)
    except Waiting as waiting:
        console.log(str(waiting))


def _report_page(workspace: Workspace) -> Path | None:
    made = [run for run in Run.all(workspace.runs) if run.is_done and "report.html" in run.outputs]
    return max(made, key=lambda run: run.finished).file("report.html") if made else None


def _screen() -> Screen:
    """Return where tables are printed; a file or a pipe gets lines as long as they are."""
    return Screen(highlight=False, width=None if sys.stdout.isatty() else 240)
