"""A call of the command on a loop that takes no time."""

import sys
from pathlib import Path

import pytest

from instructloop import commands
from instructloop.cli import main

sys.path.insert(0, str(Path(__file__).parent))  # toy_loop is imported by name, in worker processes too
from toy_loop import toy


class Said:
    """What one call of the command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "load", toy)

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(exit_.value.code, said.out, said.err)

    return run
