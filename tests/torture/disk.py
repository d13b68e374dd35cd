"""A disk that is full and one that cannot be written: a small file system in memory, seen by this test alone.

Run by tests.torture as a process that has a mount table of its own (`unshare`), so that nothing is left mounted.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from instructloop.runs import Run
from instructloop.workspace import Workspace
from tests.torture.artefacts import artefacts, differences, leftovers
from tests.torture.going import ROOT, begin
from tests.torture.world import SETTINGS

FIRST_MB = 2
MOST_FILLS = 25
FULL = ("No space left on device", "disk is full")
READ_ONLY = ("Read-only file system", "cannot be written")


def from_outside(folder: Path, undisturbed: Path, seed: int) -> list[str]:
    """Run `main` where mounting is allowed and harms nobody; return what is wrong; say so where it is not allowed."""
    rights = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run(["unshare", *rights, "true"], capture_output=True).returncode:
        print("SKIPPED: full disk and read-only workspace; this system lets nobody mount a small one (unshare --mount)")
        return []
    command = [sys.executable, "-m", "tests.torture.disk", str(folder.absolute()), str(undisturbed.absolute())]
    done = subprocess.run(["unshare", *rights, *command, str(seed)], cwd=ROOT, check=False)
    return [] if done.returncode == 0 else ["a full disk or a read-only workspace did harm, see above"]


def main(folder: Path, undisturbed: Path, seed: int) -> None:
    """Let the loop fill a small disk, give it room, let it fill it again, until it is done; once take writing away."""
    folder.mkdir()
    size, rng = float(FIRST_MB), random.Random(seed)
    mount(folder, f"size={FIRST_MB}m", first=True)
    workspace = folder / "loop"
    Workspace.create(workspace, "microworld", SETTINGS)
    total = sum(file.stat().st_size for file in undisturbed.rglob("*") if file.is_file()) / 1e6
    print(f"undisturbed the loop takes {total:.0f} MB; it gets a disk of {FIRST_MB}", flush=True)
    for fill in range(1, MOST_FILLS + 1):
        done = finished(workspace)
        go = begin(workspace)
        if go.wait() == 0:
            break
        said = refusal(go.lines, go.process.returncode, FULL, folder)
        print(f"full {fill:2}  {size:5.1f} MB  {len(finished(workspace)):2} runs done  {said}", flush=True)
        check(done <= finished(workspace), "a finished run is gone or was begun again")
        if fill == 2:
            read_only(folder, workspace)
        size += rng.uniform(0.3, 1.0) * total / 6
        mount(folder, f"size={int(size * 1024)}k")
    else:
        check(False, f"the loop is not done after {MOST_FILLS} fills")
    found = artefacts(workspace)
    check(fill > 3, f"the disk was full only {fill - 1} times")
    check(not differences(found, artefacts(undisturbed)), f"different: {differences(found, artefacts(undisturbed))}")
    check(not leftovers(workspace), f"left behind: {leftovers(workspace)}")
    print(f"all {len(found)} artefacts identical")


def read_only(folder: Path, workspace: Path) -> None:
    """Take the right to write away, run, see that it is said and that no byte changed, give it back."""
    before = contents(workspace)
    mount(folder, "ro")
    go = begin(workspace)
    go.wait()
    said = refusal(go.lines, go.process.returncode, READ_ONLY, folder)
    mount(folder, "rw")
    check(contents(workspace) == before, "a read-only workspace changed")
    print(f"read-only  {said}", flush=True)


def mount(folder: Path, options: str, *, first: bool = False) -> None:
    """Mount a file system in memory on a folder, or change the one there."""
    options = options if first else f"remount,{options}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def finished(workspace: Path) -> set[str]:
    """Return the ids of the runs that are done, each file of theirs hashed again."""
    done = {run for run in Run.all(workspace / "runs") if run.is_done}
    for run in done:
        run.verify()
    return {run.id for run in done}


def refusal(lines: list[str], code: int, wanted: tuple[str, ...], folder: Path) -> str:
    """Return the error that the command ended with, which must say what is wrong and where, in one line."""
    said = [line for line in lines if line.startswith("error: ")]
    check(code in (1, 2), f"exit code {code}: {lines[-5:]}")
    check(not any("Traceback" in line for line in lines), f"a traceback: {lines}")
    check(len(said) == 1 and any(text in said[0] for text in wanted), f"no clear error: {lines[-5:]}")
    check(str(folder) in said[0], f"the error names no file: {said[0]}")
    return said[0].replace(str(folder), "…")


def contents(workspace: Path) -> dict[str, str]:
    """Return path -> hash of all files of a workspace."""
    files = sorted(path for path in workspace.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check(holds: bool, complaint: str) -> None:
    if not holds:
        sys.exit(f"full disk, read-only workspace: {complaint}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
