"""The round: what is done, what waits, what runs next; here and in worker processes."""

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.runs import Run
from instructloop.stages import engine
from instructloop.stages.labels import Waiting
from instructloop.stages.round import Recipe, Step, execute, ordered, plan, wanted
from instructloop.workspace import Workspace

TOY = """
    from pydantic import BaseModel
    from instructloop.runs import Run
    from instructloop.stages.round import Recipe, Step

    class Config(BaseModel):
        add: int

    def run(config, *, workspace, name, round, parents, console, fails=False):
        started = Run.start(
            workspace.runs, "toy", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
        )
        if fails and not (workspace.root / "repaired").exists():
            raise ValueError("the disk is full")
        total = config.add + sum(int(parent.file("sum.txt").read_text()) for parent in parents.values())
        started.file("sum.txt").write_text(str(total))
        with console.track(2, "adding", unit="numbers") as progress:
            progress.advance(1, total=total)
        console.log(f"{name} is {total}")
        started.finish("sum.txt")
        return started

    def step(name, add, parents=(), **hooks):
        return Step(name, run, "toy", Config(add=add), {parent: parent for parent in parents}, hooks=hooks)

    def load(workspace, workers=1):
        steps = (step("one", 1), step("two", 2), step("four", 4, ["one"]), step("all", 10, ["two", "four"]))
        return Recipe("toy", steps, {"best": "all"}, workers=workers, threads=1)

    def load_parallel(workspace):
        return load(workspace, workers=2)

    def load_failing(workspace):
        steps = (step("one", 1), step("two", 2, fails=True), step("all", 10, ["one", "two"]))
        return Recipe("toy", steps, workers=2, threads=1)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a module with three toy recipes that worker processes can import too."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_recipe.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    yield importlib.import_module("toy_recipe")
    del sys.modules["toy_recipe"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "loop", "toy")


def test_a_run_does_every_step_after_its_parents_and_workers_change_no_run_id(toy, tmp_path: Path):
    ids = []
    for load in (toy.load, toy.load_parallel):
        workspace, console = Workspace.create(tmp_path / load.__name__, "toy"), Quiet()
        states = engine.run(workspace, load, console)
        assert [(s.name, s.status) for s in states] == [(n, "done") for n in ("one", "two", "four", "all")]
        assert Run.find(workspace.runs, "all").file("sum.txt").read_text() == "17"  # 10 + 2 + (4 + 1)
        assert Run.find(workspace.runs, "best").name == "all"
        assert "all is 17" in console.messages
        ids.append([state.run_id for state in states])
    assert ids[0] == ids[1]


def test_until_does_only_what_leads_there(toy, workspace: Workspace):
    states = engine.run(workspace, toy.load, Quiet(), until="four")
    assert {s.name: s.status for s in states} == {"one": "done", "two": "ready", "four": "done", "all": "blocked"}


def test_a_failure_is_raised_after_the_others_end_and_a_second_run_goes_on(toy, workspace: Workspace):
    with pytest.raises(ValueError, match="the disk is full"):
        engine.run(workspace, toy.load_failing, Quiet())
    assert {s.name: s.status for s in plan(workspace, toy.load_failing(workspace))} == {
        "one": "done",
        "two": "running",
        "all": "blocked",
    }
    (workspace.root / "repaired").touch()
    states = engine.run(workspace, toy.load_failing, Quiet())
    assert all(state.status == "done" for state in states)


def test_a_step_without_its_parents_says_what_comes_first(toy, workspace: Workspace):
    with pytest.raises(ValueError, match="all needs two, four first: instructloop run --until all"):
        execute(workspace, toy.load(workspace), "all", Quiet())


def test_a_change_of_configuration_changes_the_id_of_everything_after_it_and_of_nothing_else(toy, workspace: Workspace):
    first = {s.name: s.run_id for s in engine.run(workspace, toy.load, Quiet())}
    changed = [toy.step("one", 100) if s.name == "one" else s for s in toy.load(workspace).steps]
    recipe = Recipe("toy", tuple(changed), threads=1)
    for step in recipe.steps:
        execute(workspace, recipe, step.name, Quiet())
    second = {s.name: s.run_id for s in plan(workspace, recipe)}
    assert {name for name in first if first[name] != second[name]} == {"one", "four", "all"}


def test_steps_must_come_after_their_parents_and_once(toy):
    one, four = toy.step("one", 1), toy.step("four", 4, ["one"])
    with pytest.raises(ValueError, match="four needs one = one"):
        ordered([four, one])
    with pytest.raises(ValueError, match="one stands twice"):
        ordered([one, one])


def test_wanted_refuses_an_unknown_step(toy, workspace: Workspace):
    with pytest.raises(ValueError, match="has no step fuor: it has one, two, four, all"):
        wanted(toy.load(workspace), "fuor")


def test_a_step_that_waits_for_people_stops_nothing_else(toy, workspace: Workspace):
    from instructloop.store.rows import Progress

    def waits(config, **_):
        raise Waiting("two", Progress("t", "compare", 5, 5, 2, 0, 0, 0, 0, 3, [], {}))

    recipe = Recipe(
        "toy",
        (toy.step("one", 1), Step("two", waits, "toy", toy.Config(add=2)), toy.step("four", 4, ["one"])),
        threads=1,
    )
    console = Quiet()
    states = engine.run(workspace, lambda _: recipe, console)
    assert {s.name: s.status for s in states} == {"one": "done", "two": "ready", "four": "done"}
    assert "two waits for people: 2 of 5 judgements are in" in console.messages
