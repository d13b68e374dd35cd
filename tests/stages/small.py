"""What tests of the training stages start from: a workspace, imported runs of models and rows, a crash on demand."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from instructloop.files import write_jsonl
from instructloop.models.lm import save_lm
from instructloop.runs import Run
from instructloop.train import loop
from instructloop.workspace import Workspace
from tests.tiny import tiny_lm


class Crash(Exception):
    """The power fails."""


def workspace(path: Path) -> Workspace:
    return Workspace.create(path, "microworld")


def imported(workspace: Workspace, name: str, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Run:
    """Return a finished run that holds JSONL files."""
    run = Run.start(workspace.runs, "import", name=name, round=1, config={}, parents={})
    for file, rows in files.items():
        write_jsonl(run.file(file), rows)
    return run.finish(*files)


def imported_lm(workspace: Workspace, *, name: str = "base", **kind: Any) -> Run:
    """Return a finished run that holds a tiny language model."""
    run = Run.start(workspace.runs, "import", name=name, round=1, config={}, parents={})
    save_lm(*tiny_lm(**kind), run.file("model"))
    return run.finish("model")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@contextmanager
def crash_after(monkeypatch: pytest.MonkeyPatch, num_steps: int) -> Generator[None]:
    """Within, every fit writes a checkpoint wherever it can, and raises Crash after so many optimizer steps."""
    real, done = loop._train_step, []

    def train_step(*arguments: Any) -> None:
        if len(done) == num_steps:
            raise Crash
        done.append(None)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_step", train_step)
        patch.setattr(loop._Saver, "is_due", lambda _: True)
        yield


def same_training(one: Run, other: Run) -> bool:
    """Whether two runs logged the same, times apart."""

    def facts(run: Run) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in row.items() if not key.startswith(("time/", "perf/"))}
            for row in run.metrics()
        ]

    return facts(one) == facts(other)
