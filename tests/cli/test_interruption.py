"""Ctrl-C and second processes: the command says how to go on, and an interrupted loop ends the same."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toy_loop import results

from instructloop.runs import Run


def test_an_interrupted_loop_says_how_to_go_on_and_ends_the_same(call):
    call("demo", "--dir", "whole")
    call("init", "--dir", "demo")
    Path("demo/cache/stop-reward").touch()
    said = call("run", "--dir", "demo")
    assert said.code == 130
    assert said.err == "stopped after step 2. To go on: instructloop run --dir demo\n"
    assert "stopped half-way" in call("status", "--dir", "demo").out
    assert call("run", "--dir", "demo").code == 0
    assert results(Path("demo")) == results(Path("whole"))


LOOP = """
import functools, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background are born with it ignored
sys.path.insert(0, sys.argv[1])
from toy_loop import toy
from instructloop import cli, commands
commands.load = functools.partial(toy, wait=0.05, workers=int(sys.argv[2]))
cli.main(["run", "--set", "prompts.steps=1000"])
"""


def test_ctrl_c_ends_the_command_with_130_and_a_second_process_waits_its_turn(call):
    call("init")
    arguments = [sys.executable, "-c", LOOP, str(Path(__file__).parent), "1"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as loop:
        try:
            deadline = time.monotonic() + 30
            while not list(Path("runs").glob("*/state")) and time.monotonic() < deadline:
                time.sleep(0.05)
            refused = call("run", "--set", "prompts.steps=1000")
            assert refused.code == 1
            assert refused.err == f"error: . is being worked on by process {loop.pid}: one at a time\n"
            assert f"at work now, process {loop.pid}" in call("status", "--set", "prompts.steps=1000").out
            loop.send_signal(signal.SIGINT)
            _, err = loop.communicate(timeout=30)
        finally:
            loop.kill()
    assert loop.returncode == 130
    assert "go on from their last checkpoint. To go on: instructloop run --set prompts.steps=1000" in err
    [run] = Run.all(Path("runs"))
    assert not run.is_done
    assert json.loads(run.file("state").read_text()) > 0


@pytest.mark.slow
def test_workers_of_a_command_that_was_killed_stop_and_go(call, monkeypatch: pytest.MonkeyPatch):
    call("init")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # so that a worker finds the toy loop too
    arguments = [sys.executable, "-c", LOOP, str(Path(__file__).parent), "2"]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as loop:
        deadline = time.monotonic() + 60
        while not list(Path("runs").glob("*/state")) and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = psutil.Process(loop.pid).children()
        loop.kill()
    _, alive = psutil.wait_procs(workers, timeout=30)
    for process in alive:
        process.kill()
    assert workers
    assert alive == []
    [run] = Run.all(Path("runs"))
    assert not run.is_done
    assert call("run").code == 0  # nobody holds the workspace, and the run goes on
