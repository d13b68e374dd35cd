"""`--profile`: a trace and a table where they are asked for, and no number that differs."""

import gzip
import json
import os

import pytest

from instructloop.profiling import profiling
from instructloop.train.profile import TABLE, TRACE, WANTED
from tests.train.test_loop import lm_fit, without_times


def test_steps_are_traced_the_command_prints_where_the_time_went_and_no_number_is_another(
    new_run, capsys: pytest.CaptureFixture[str]
):
    profiled, plain = new_run(number=1), new_run(number=2)
    with profiling(wanted=True):
        weights, _ = lm_fit(profiled)
    said, folder = capsys.readouterr().out, profiled.path / "profile"
    assert said.startswith(f"{folder / TRACE} opens in")
    assert "Self CPU %" in said
    assert "aten::" in (folder / TABLE).read_text()
    with gzip.open(folder / TRACE) as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("Optimizer.step#AdamW.step") == 3  # of six: two to warm up, then three

    assert WANTED not in os.environ
    with profiling(wanted=False):
        assert WANTED not in os.environ
        same, _ = lm_fit(plain)
    assert all(bool((weights[name] == same[name]).all()) for name in weights)
    assert without_times(profiled.metrics()) == without_times(plain.metrics())
    assert not (plain.path / "profile").exists()
