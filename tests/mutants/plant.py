"""Bugs planted one at a time in a copy of the tree, and whether the tests that are to catch them do; no bugs here."""

from __future__ import annotations

import os
import re
import shutil
import signal
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
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", "--hypothesis-seed=0")
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
        where = "import instructloop, tests.shapes; print(instructloop.__file__, tests.shapes.__file__)"
        code, output = run_python(tree, ("-c", where), BUG_SECONDS)
        files = output.split()
        if code != 0 or len(files) != 2 or not all(Path(file).is_relative_to(tree) for file in files):
            return f"a copy at {tree} would test the code of {output.strip()}"
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
    """Return pytest's exit code and output as `run_python` does; what tests write stays in the copy."""
    return run_python(tree, (*PYTEST, f"--basetemp={tree / 'tmp'}", *tests), seconds)


def run_python(tree: Path, arguments: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Return exit code (None: out of time, killed with its children) and output of Python in a copy."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]
