"""A workspace with a tiny policy, a prompted one and a reward model, and calls of the command with a standard input."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from instructloop.cli import main
from instructloop.models.lm import save_lm
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run, publish
from instructloop.workspace import Workspace
from tests.tiny import tiny_lm


def policy_run(runs: Path, name: str, seed: int) -> Run:
    """Return a finished run whose model is tiny."""
    run = Run.start(runs, "s3_sft", name=name, round=1, config={"seed": seed}, parents={})
    model, text = tiny_lm(seed=seed)
    save_lm(model, text, run.file("model"))
    return run.finish("model")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("talk") / "loop"
    runs = Workspace.create(root, "microworld").runs
    sft = policy_run(runs, "sft", 5)
    publish(runs, "best", policy_run(runs, "ppo", 6))
    reward = Run.start(runs, "s6_reward", name="reward", round=1, config={}, parents={"init": sft})
    model, text = ScalarModel.from_lm(*tiny_lm(seed=5), seed=1)
    model.save(reward.file("model"), text)
    reward.finish("model")
    prompted = Run.start(runs, "s8_policy", name="prompted", round=1, config={}, parents={"base": sft})
    chosen = {"role": "base", "folder": "", "prefix": "Q: a\nA: b\n"}
    prompted.file("choice.json").write_text(json.dumps({"chosen": chosen}))
    prompted.finish("choice.json")
    Run.start(runs, "s3_sft", name="going_on", round=1, config={}, parents={})
    return root


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that calls the command in an empty folder, with `given` as its standard input."""
    monkeypatch.setenv("INSTRUCTLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str, given: bytes = b"") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=said.out, err=said.err)

    return run
