"""The whole loop with people in the app: it stops where they are needed and goes on with what they did."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from instructloop.console import Quiet
from instructloop.recipes import microworld
from instructloop.runs import Run
from instructloop.simulated.visit import visit
from instructloop.stages import engine
from instructloop.stages.round import Recipe
from instructloop.workspace import Workspace
from tests.simulated.served import serving
from tests.tiny_loop import TINY

ASKED = ["demonstrations", "rankings", "rankings_second", "rankings_third", "eval_rankings"]


def one_at_a_time(workspace: Workspace) -> Recipe:
    return replace(microworld.recipe(workspace), workers=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_loop_stops_five_times_for_people_and_ends_with_their_report(tmp_path: Path):
    workspace = Workspace.create(tmp_path / "loop", "microworld", TINY, people="app")
    stops = list[str]()
    with serving(workspace) as url:
        while waiting := [s for s in engine.run(workspace, one_at_a_time, Quiet()) if s.status == "waiting"]:
            stops += [state.name for state in waiting]
            assert all(state.detail.endswith("judgements are in; at it now: nobody") for state in waiting)
            visit(workspace, url, Quiet(), num_train=40, seed=None, speed=None)
    assert stops == ASKED
    assert {state.status for state in engine.plan(workspace, one_at_a_time(workspace))} == {"done"}
    cohorts = dict.fromkeys(ASKED, "train") | {"eval_rankings": "heldout"}
    for name, cohort in cohorts.items():
        run = Run.find(workspace.runs, name)
        [file] = run.outputs
        rows = [json.loads(line) for line in run.file(file).read_text().splitlines()]
        assert {row["cohort"] for row in rows} == {cohort}
    assert {labeler.origin for labeler in workspace.store.labelers()} == {"simulated"}
    report = json.loads((workspace.root / "report.json").read_text())
    assert report["simulated"] is True  # the loop waited for the app, but who came there was no person
    assert report["win_rate_vs_sft"].keys() == {"base", "base_prompted", "sft", "ppo", "ppo_ptx"}
