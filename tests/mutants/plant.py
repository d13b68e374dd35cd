"""Bugs planted one at a time in a copy of the tree, and whether the tests that are to catch them do; no bugs here."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests.mutants.bug import ROOT, Bug

COPIED = ("instructloop", "tests", "pyproject.toml")
BUG_SECONDS, ALL_SECONDS = 240.0, 900.0
"""How long the tests of one bug, and all tests concerned, may take before they are killed."""
PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "-W", "ignore", "--tb=no", "--hypothesis-seed=0")
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
IDLE: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
"""Processes that fork and are not at it now (forking.py); they end with this one."""
FAILED = re.compile(r"^FAILED (.*?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests said; `detail` is the test that failed first, or why there is no verdict."""

    outcome: Literal["caught", "survived", "no verdict"]
    detail: str
    seconds: float = 0.0


def judge(code: int | None, output: str) -> Verdict:
    """Return the verdict of one pytest run: caught is a failed test, never an error of import, fixture or time.

    `code` None: it ran out of time.
    """
    failed = FAILED.search(output)
    if code == 1 and failed:
        return Verdict("caught", failed.group(1))
    if code == 0:
        return Verdict("survived", "every test passed")
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    return Verdict("no verdict", f"out of time: {last}" if code is None else f"pytest ended with {code}: {last}")


def try_bug(bug: Bug) -> Verdict:
    """Plant one bug in a copy of its own and run the tests that are to catch it."""
    started = time.monotonic()
    with copied_tree() as tree:
        file = tree / bug.file
        file.write_text(bug.planted(file.read_text()))
        found = judge(*run_tests(tree, bug.tests, BUG_SECONDS))
    return Verdict(found.outcome, found.detail, time.monotonic() - started)


def check_copy(tests: Sequence[str]) -> str:
    """Return what is wrong with a copy without any bug: imported from elsewhere, or a test fails; "" if nothing."""
    with copied_tree() as tree:
        code, output = run_tests(tree, tests, ALL_SECONDS)
    return "" if code == 0 else f"the tests fail without any bug: {output.strip()}"


@contextmanager
def copied_tree() -> Iterator[Path]:
    """Within, a copy of package and tests without compiled files: no test can meet bytecode of another bug."""
    with TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, tree / name)
        yield tree


def run_tests(tree: Path, tests: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Return pytest's exit code (None: out of time, killed with its children) and output; its files are in the copy."""
    output = tree / "output"
    arguments = [*PYTEST, f"--basetemp={tree / 'tmp'}", *tests]
    asked = {"tree": str(tree), "arguments": arguments, "output": str(output), "seconds": seconds}
    forking = _idle()
    assert forking.stdin is not None
    assert forking.stdout is not None
    forking.stdin.write(json.dumps(asked) + "\n")
    forking.stdin.flush()
    answer = json.loads(forking.stdout.readline())
    IDLE.put(forking)
    return answer["code"], output.read_text(errors="replace")


def _idle() -> subprocess.Popen[str]:
    """Return a process that forks: one that has nothing to do, or a new one."""
    try:
        return IDLE.get_nowait()
    except queue.Empty:
        command = [sys.executable, str(Path(__file__).parent / "forking.py")]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdin=pipe, stdout=pipe, text=True)
