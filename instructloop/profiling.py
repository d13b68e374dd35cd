"""What `--profile` asks of every training of one command, and what it says at the end; train/profile.py does it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def profiling(*, wanted: bool) -> Generator[None]:
    """Within, trainings are profiled, also those of worker processes; then print where the time went in each.

    Nothing at all happens unless it is wanted.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "10")  # else torch's recorder writes lines among ours; read at its import
    from instructloop.train.profile import TABLE, TRACE, WANTED

    with tempfile.NamedTemporaryFile("r", suffix=".profiles") as written:
        os.environ[WANTED] = written.name
        try:
            yield
        finally:
            del os.environ[WANTED]
            folders = [Path(line) for line in written.read().splitlines()]
            for folder in folders:
                print(f"{folder / TRACE} opens in ui.perfetto.dev\n{(folder / TABLE).read_text(encoding='utf-8')}")
            if not folders:
                print("--profile found nothing to trace: no training step was left to do", file=sys.stderr)
