"""The command: what each verb says, its exit codes, one line for every error."""

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from instructloop import commands
from instructloop.cli import STAGES, main
from instructloop.runs import Run


def test_help_comes_in_well_under_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "instructloop", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.8  # of the processor
    for verb in ("init", "status", "run", "lineage", "report", "demo", "real", "simulate-labelers", *STAGES):
        assert verb in done.stdout


@pytest.mark.parametrize(
    "verb", ["init", "status", "run", "lineage", "report", "demo", "real", "simulate-labelers", *STAGES]
)
def test_the_help_of_every_verb_has_an_example(call, verb: str):
    said = call(verb, "--help")
    assert said.code == 0
    assert f"Example: instructloop {verb}" in said.out


def test_no_verb_shows_the_help(call):
    said = call()
    assert said.code == 0
    assert "status" in said.out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nope"], "No such command 'nope'"),
        (["run", "--bad"], "No such option: --bad"),
        (["real"], "Missing option '--data'"),
        (["demo", "--seed", "x"], "Invalid value for '--seed'"),
        (["init", "--recipe", "mikroworld"], "recipe 'mikroworld' is unknown; did you mean microworld?"),
        (["init", "--recipe", "real"], "needs --data FOLDER"),
        (["init", "--data", "."], "--data has no effect"),
        (["init", "--people", "apps"], "--people 'apps' is unknown; did you mean app?"),
        (["simulate-labelers"], "Missing option '--url'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(call, arguments: list[str], error: str):
    said = call(*arguments)
    assert said.code == 2
    assert error in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not Path("loop.yaml").exists()


def test_a_folder_that_is_no_workspace_is_exit_code_1(call):
    said = call("status", "--dir", "nothing")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "nothing is no workspace: it has no loop.yaml" in said.err


def test_debug_shows_where_an_error_comes_from(call):
    for arguments in (["--debug", "status"], ["status", "--debug"]):
        with pytest.raises(ValueError, match="is no workspace"):
            main(arguments)


def test_init_makes_a_workspace_and_says_how_to_go_on(call):
    said = call("init", "--dir", "mine", "--seed", "4")
    assert said.out == "made mine/loop.yaml; next: instructloop run --dir mine\n"
    assert Path("mine/loop.yaml").read_text() == "recipe: microworld\nseed: 4\nround: 1\n"
    assert call("init", "--dir", "mine").code == 1


def test_init_can_make_a_loop_that_waits_for_the_app(call):
    call("init", "--people", "app")
    assert Path("loop.yaml").read_text() == "recipe: microworld\nseed: 1\nround: 1\npeople: app\n"


def test_the_next_line_says_where_people_work():
    from instructloop.stages.round import StepState
    from instructloop.tables import next_line

    waiting = StepState("rankings", "s5_rankings", "waiting", None, "3 of 9 judgements are in; at it now: Ann")
    assert next_line([waiting], "instructloop run", "instructloop web") == (
        "next: people in instructloop web: rankings (3 of 9 judgements are in; at it now: Ann); then instructloop run"
    )


def test_status_says_what_is_next_before_and_after(call):
    call("init")
    before = call("status")
    assert [line.split()[:3] for line in before.out.splitlines()[1:3]] == [
        ["▸", "prompts", "ready"],
        ["·", "reward", "blocked"],
    ]
    assert "next: instructloop run does prompts" in " ".join(before.out.split())
    call("run", "--until", "reward")
    after = call("status").out
    assert [line.split()[2] for line in after.splitlines()[1:5]] == ["done", "done", "ready", "blocked"]
    call("run")
    assert "done: every step of this round" in call("status").out


def test_status_tells_a_program_the_same_as_json(call):
    call("init")
    found = json.loads(call("status", "--json").out)
    assert [step["name"] for step in found["steps"]] == ["prompts", "reward", "ppo", "evaluation"]
    assert found["ahead"] == {
        "round": 1,
        "opening": None,
        "steps": ["prompts", "reward", "ppo", "evaluation"],
        "frozen": [],
        "waits_for": {},
    }
    call("run")
    assert json.loads(call("status", "--json").out)["ahead"]["steps"] == []


def test_run_does_everything_once_and_shows_the_figures(call):
    call("init")
    said = call("run")
    assert said.code == 0
    assert "ppo counted to 3" in said.out
    assert re.search(r"PPO-ptx.*61", said.out)
    assert said.out.splitlines()[-1].startswith("report: runs/r01-evaluation-")
    again = call("run")
    assert again.code == 0
    assert "counted" not in again.out


def test_until_and_set_reach_the_steps(call):
    call("init")
    assert call("run", "--until", "prompts", "--set", "prompts.steps=5").code == 0
    [run] = Run.all(Path("runs"))
    assert run.config == {"steps": 5}
    assert "steps" not in Path("loop.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--until", "rewrad"], 2, "--until rewrad: there is no such step; did you mean reward?"),
        (["--set", "steps=5"], 2, "must read step.field=value"),
        (["--set", "prompts.stepz=5"], 1, "prompts.stepz is no field; did you mean steps?"),
        (["--set", "prompts.steps=many"], 1, "prompts.steps = 'many': input should be a valid integer"),
    ],
)
def test_a_wrong_step_or_setting_starts_nothing(call, arguments: list[str], code: int, error: str):
    call("init")
    said = call("run", *arguments)
    assert said.code == code
    assert error in said.err
    assert Run.all(Path("runs")) == []


def test_a_stage_runs_by_its_name_when_its_parents_are_there(call):
    call("init")
    said = call("reward")
    assert said.code == 1
    assert said.err.startswith("error: s6_reward needs prompts first: instructloop run --until reward")
    assert call("prompts").code == 0
    done = call("reward")
    assert done.code == 0
    assert "reward: done in" in done.out
    assert {run.name for run in Run.all(Path("runs"))} == {"prompts", "reward"}


def test_a_stage_can_be_narrowed_to_one_step(call):
    call("init")
    assert call("prompts", "prompts").code == 0
    said = call("reward", "fold1")
    assert said.code == 2
    assert "fold1 is no step of stage s6_reward; its steps are reward" in said.err
    assert "its steps are none in this recipe" in call("samples", "x").err


def test_lineage_prints_the_tree_with_hashes_and_verifies_it(call):
    call("init")
    call("run")
    said = call("lineage", "best")  # published by the loop
    [ppo] = [run for run in Run.all(Path("runs")) if run.name == "ppo"]
    lines = said.out.splitlines()
    assert lines[0].split() == [ppo.id, "s7_ppo"]
    assert lines[1].split() == ["result.json", "sha256", ppo.outputs["result.json"][:12]]
    assert sum("prompts: r01-prompts" in line for line in lines) == 2
    assert ppo.parents["prompts"].outputs["result.json"] in call("lineage", "ppo", "--full").out
    assert "is what it was" in call("lineage", "best", "--verify").out
    ppo.parents["prompts"].file("result.json").write_text("edited")
    broken = call("lineage", "best", "--verify")
    assert broken.code == 1
    assert "result.json was edited after run r01-prompts" in broken.err


def test_report_gives_the_path_and_opens_the_browser(call, monkeypatch: pytest.MonkeyPatch):
    call("init")
    assert "no evaluation is done yet: instructloop run makes one" in call("report").err
    call("run")
    opened = list[str]()
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    said = call("report", "--open")
    assert Path(said.out.strip()).read_text() == "<p>report</p>"
    assert opened == [Path(said.out.strip()).resolve().as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert call("report", "--open").code == 1


def test_demo_makes_the_workspace_runs_it_and_goes_on_with_it(call):
    said = call("demo")
    assert said.code == 0
    assert Path("demo/loop.yaml").exists()
    assert "report: demo/" in said.out
    assert call("demo").code == 0
    other = call("demo", "--seed", "2")
    assert other.code == 1
    assert "demo/loop.yaml is of recipe microworld, seed 1" in other.err


def test_a_failing_step_is_one_line_and_is_taken_up_again(call):
    call("init")
    Path("cache/break-ppo").touch()
    said = call("run")
    assert (said.code, said.err) == (1, "error: RuntimeError: no luck (--debug shows where)\n")
    assert call("run").code == 0


def test_a_full_disk_is_named_with_the_file(call, monkeypatch: pytest.MonkeyPatch):
    call("init")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = call("run")
    assert said.code == 1
    assert said.err.startswith("error: No space left on device while writing: runs/r01-prompts-")
    assert "free some space" in said.err
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe: microworld\nseed: 1\n", "loop.yaml: round is missing"),
        ("recipe: microworld\nseed: 1\nround: 1\nset: {ppo: {stepz: 1}}\n", "ppo.stepz is no field"),
        ("recipe: microworld\nseed: one\nround: 1\n", "loop.yaml: seed = 'one'"),
    ],
)
def test_a_wrong_loop_file_is_one_line(call, text: str, said: str):
    Path("loop.yaml").write_text(text)
    for verb in ("run", "status", "ppo"):
        answer = call(verb)
        assert (answer.code, answer.err.count("\n")) == (1, 1)
        assert said in answer.err


def test_an_unknown_recipe_in_the_loop_file_is_refused(call, monkeypatch: pytest.MonkeyPatch):
    from instructloop.recipes import load

    monkeypatch.setattr(commands, "load", load)
    Path("loop.yaml").write_text("recipe: microwrld\nseed: 1\nround: 1\n")
    said = call("status")
    assert said.code == 1
    assert "recipe 'microwrld' is unknown; did you mean microworld?" in said.err


def test_a_profile_of_nothing_says_so(call):
    said = call("--profile", "--version")
    assert said.code == 0
    assert "--profile found nothing to trace" in said.err
