"""What a loop leaves, in a form in which two loops can be compared: all that is no time of day and no speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from instructloop.evals.report import render
from instructloop.runs import Run, published

TIMES = ("perf/", "time/")
CLOCKS = {"wall_seconds", "seconds"}  # of a report
REPORTS = ("report.json", "report.html")


def artefacts(workspace: Path) -> dict[str, Any]:
    """Return name -> content (a hash, or what was logged) of everything that a finished loop offers.

    ValueError when a run is not finished, or when a file is not what its run wrote.
    """
    found: dict[str, Any] = {"names.json": published(workspace / "runs")}
    for run in Run.all(workspace / "runs"):
        if not run.is_done:
            raise ValueError(f"{run.id} was begun and is not finished")
        run.verify()
        found |= {f"{run.id}/{file}": sha for file, sha in run.manifest.files.items() if file not in REPORTS}
        found[f"{run.id}/summary"] = run.summary
        if run.file("metrics.jsonl").exists():
            found[f"{run.id}/metrics.jsonl"] = [_timeless(row) for row in run.metrics()]
        if "report.json" in run.outputs:
            found[f"{run.id}/report"] = _report(workspace, run)
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the names of what is missing, too much or different."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def leftovers(workspace: Path) -> list[str]:
    """Return files that nobody needs once the loop is done: checkpoints, and what was half-written."""
    patterns = ("runs/*/checkpoints", "runs/**/*.partial", "runs/*/.*.tmp")
    return sorted(str(path.relative_to(workspace)) for pattern in patterns for path in workspace.glob(pattern))


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith(TIMES)}


def _report(workspace: Path, run: Run) -> Any:
    """Return a report's figures; ValueError when its page or the copies in the workspace's root are not its own."""
    report = json.loads(run.file("report.json").read_text(encoding="utf-8"))
    if run.file("report.html").read_text(encoding="utf-8") != render(report):
        raise ValueError(f"{run.file('report.html')} is not the page of report.json")
    for file in REPORTS:
        if (workspace / file).read_bytes() != run.file(file).read_bytes():
            raise ValueError(f"{workspace / file} is no copy of the one in {run.id}")
    return _clockless(report)


def _clockless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clockless(one) for key, one in value.items() if key not in CLOCKS}
    return [_clockless(one) for one in value] if isinstance(value, list) else value
