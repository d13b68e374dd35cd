"""When to kill: a list of moments in the order of the loop, each waited for by what is to be seen from outside."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from instructloop.runs import Run
from tests.torture.going import Go

Kind = Literal["base", "sft", "reward", "ppo", "labels", "evaluation", "other"]
Part = Literal["at work", "training", "freezing", "report", "anywhere"]
"""`training`: from the first checkpoint of this go on; `freezing`, `report`: from the first byte of the file on."""

POLL_SECONDS = 0.002
PLAN: Sequence[tuple[str, Part]] = (
    ("", "anywhere"),
    ("base", "at work"),
    ("demonstrations", "at work"),
    ("demonstrations", "freezing"),
    ("sft", "at work"),
    ("sft", "training"),
    ("ppo_init", "training"),
    ("rankings", "at work"),
    ("rankings", "freezing"),
    ("reward_first", "at work"),
    ("reward_first", "training"),
    ("ppo_first", "at work"),
    ("ppo_first", "training"),
    ("rankings_second", "freezing"),
    ("reward_second", "at work"),
    ("ppo_second", "training"),
    ("", "anywhere"),
    ("reward", "training"),
    ("reward_fold_3", "at work"),
    ("ppo_ptx", "at work"),
    ("ppo_ptx", "training"),
    ("ppo", "at work"),
    ("ppo", "training"),
    ("ppo_ptx_loose", "training"),
    ("", "anywhere"),
    ("eval_rankings", "freezing"),
    *[("evaluation", "at work")] * 2,
    *[("evaluation", "report")] * 2,
)


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill and what it struck: the steps at work, and of the one that counts how far it had come."""

    seconds: float  # since the command was started
    step: str
    kind: Kind
    where: str
    has_checkpoint: bool
    others: tuple[str, ...]


def kind_of(step: str) -> Kind:
    """Return what kind of work a step of the microworld is."""
    if step in ("base", "evaluation"):
        return step
    if step in ("sft", "ppo_init"):
        return "sft"
    if step == "demonstrations" or "rankings" in step:
        return "labels"
    for kind in ("reward", "ppo"):
        if step.startswith(kind):
            return kind
    return "other"


def strike(
    go: Go, workspace: Path, moment: tuple[str, Part], usual: Mapping[str, float], rng: random.Random
) -> Kill | None:
    """Wait for a moment, kill, and say what was struck; None when the command ended before.

    Where the step is done already the kill comes at any moment of the first seconds. `usual` are the seconds that
    steps take undisturbed; the kill comes at a random part of them.
    """
    step, part = moment
    if not _await(go, workspace, step, part):
        part = "anywhere"
    length = usual.get(step, 1.0)
    longest = {"at work": length, "training": length / 2, "freezing": 0.03, "report": 0.5, "anywhere": 8.0}[part]
    deadline = time.monotonic() + rng.uniform(0.0, longest)
    while time.monotonic() < deadline and not go.is_over:
        time.sleep(POLL_SECONDS)
    if go.is_over:
        return None
    seconds, at_work, since = go.seconds, go.at_work, time.time() - go.seconds
    go.kill()
    return _struck(workspace, seconds, at_work, step, since)


def _await(go: Go, workspace: Path, step: str, part: Part) -> bool:
    """Wait until the step is in the part of its work that is meant; False when it never will be in this go."""
    if part == "anywhere":
        return True
    if any(run.name == step and run.is_done for run in Run.all(workspace / "runs")):
        return False
    signs = _signs(step, part)
    before = _seen(workspace, signs)
    while not go.is_over and step not in go.ended:
        if step in go.began and (not signs or _seen(workspace, signs) - before):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _signs(step: str, part: Part) -> tuple[str, ...]:
    """Return patterns of files that are new when a step is in a part of its work; none: it is when it has begun."""
    run = f"runs/r*-{step}-????????"
    match part:
        case "at work":  # the run of people's work begins when they are done
            return () if kind_of(step) == "labels" else (f"{run}/lock",)
        case "training":
            return (f"{run}/checkpoints/*.json",)
        case "freezing":
            return (f"cache/.r*-{step}-????????.jsonl.part", f"cache/r*-{step}-????????.jsonl")
        case "report":
            return (f"{run}/.report.json.*", f"{run}/report.json")
        case "anywhere":
            return ()


def _seen(workspace: Path, patterns: Sequence[str]) -> set[tuple[Path, int]]:
    """Return the files of patterns that are there, with their times: what is written again is new."""
    found = set[tuple[Path, int]]()
    for path in [path for pattern in patterns for path in workspace.glob(pattern)]:
        with suppress(FileNotFoundError):  # it was renamed meanwhile
            found.add((path, path.stat().st_mtime_ns))
    return found


def _struck(workspace: Path, seconds: float, at_work: Sequence[str], wanted: str, since: float) -> Kill:
    """Read off the disk what the kill has left: of the wanted step if it was struck, else of the first at work.

    `since` is when the command was started: what is older was left by an earlier go.
    """
    runs = {run.name: run for run in Run.all(workspace / "runs")}
    struck = [name for name in at_work if name not in runs or not runs[name].is_done]
    step = wanted if wanted in struck else next(iter(struck), "")
    path = runs[step].path if step in runs else None
    checkpoints = sorted(int(file.stem) for file in path.glob("checkpoints/*.json")) if path else []
    where = _where(workspace, step, path, checkpoints, since)
    others = tuple(name for name in struck if name != step)
    return Kill(seconds, step or "between steps", kind_of(step), where, bool(checkpoints), others)


def _where(workspace: Path, step: str, path: Path | None, checkpoints: Sequence[int], since: float) -> str:
    """Return in words how far a step had come in the go that was killed."""
    if not step:
        return "no step was at work"
    if path is None and kind_of(step) == "labels":
        is_freezing = any(mtime >= since * 1e9 for _, mtime in _seen(workspace, _signs(step, "freezing")))
        return "while freezing" if is_freezing else "while people worked"
    if path is None:
        return "before its run began"
    if checkpoints:
        return f"checkpoint of step {checkpoints[-1]}"
    written = (path / name for name in ("report.html", "report.json", "model", "metrics.jsonl"))
    new = [file.name for file in written if file.exists() and file.stat().st_mtime >= since]
    return f"{new[0]} was there" if new else "its run had begun"
