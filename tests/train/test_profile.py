"""`--profile`: a trace and a table where they are asked for, and no number that differs."""

import gzip
import json
import os
from pathlib import Path

import pytest

from instructloop.profiling import profiling
from instructloop.train.profile import TABLE, TRACE, WANTED
from tests.train.test_loop import lm_fit, without_times


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "heard"
    monkeypatch.setenv(WANTED, str(file))
    return file


def test_steps_are_traced_and_the_table_names_operators(new_run, heard: Path):
    run = new_run()
    lm_fit(run)
    folder = run.path / "profile"
    with gzip.open(folder / TRACE) as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("Optimizer.step#AdamW.step") == 3  # of six: two to warm up, then three
    assert "aten::" in (folder / TABLE).read_text()
    assert heard.read_text() == f"{folder}\n"


def test_a_profile_changes_no_weight_and_no_metric(new_run, monkeypatch: pytest.MonkeyPatch, heard: Path):
    profiled, plain = new_run(number=1), new_run(number=2)
    weights, _ = lm_fit(profiled)
    monkeypatch.delenv(WANTED)
    same, _ = lm_fit(plain)
    assert all(bool((weights[name] == same[name]).all()) for name in weights)
    assert without_times(profiled.metrics()) == without_times(plain.metrics())
    assert not (plain.path / "profile").exists()


def test_the_command_prints_where_the_time_went_and_leaves_the_environment_as_it_was(
    new_run, capsys: pytest.CaptureFixture[str]
):
    run = new_run()
    with profiling(wanted=True):
        lm_fit(run)
    said = capsys.readouterr().out
    assert said.startswith(f"{run.path / 'profile' / TRACE} opens in")
    assert "Self CPU %" in said
    assert WANTED not in os.environ
    with profiling(wanted=False):
        assert WANTED not in os.environ
