"""Runs to train in."""

from pathlib import Path

import pytest

from instructloop.runs import Run


@pytest.fixture
def new_run(tmp_path: Path):
    def start(name: str = "fit", number: int = 1) -> Run:
        """A new run, or the same again when it was left unfinished."""
        return Run.start(tmp_path / f"runs{number}", "import", name=name, round=1, config={}, parents={})

    return start
