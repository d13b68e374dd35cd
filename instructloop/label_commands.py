"""What `instructloop import` and `instructloop export` do: people's data in and out; cli reads what is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from instructloop.commands import Usage, command
from instructloop.console import open_console
from instructloop.core.records import COHORTS
from instructloop.formats.given import Kind
from instructloop.formats.shapes import SHAPES
from instructloop.formats.writing import WRITTEN
from instructloop.recipes import label_exports, label_files
from instructloop.runs import Run
from instructloop.workspace import Workspace, suggestion


def bring(workspace: Workspace, source: str, kind: str, options: Mapping[str, object], fields: Sequence[str]) -> None:
    """Import a file or data set and say how many rows were kept and why others were not; Usage for a wrong word."""
    for name, word, known in (("as", kind, get_args(Kind)), ("cohort", options["cohort"], COHORTS)):
        if word not in known:
            raise Usage(f"--{name} {word!r} is unknown{suggestion(str(word), known)}")
    shape = options["shape"]
    if shape is not None and shape not in (known := [name for of in SHAPES.values() for name in of]):
        raise Usage(f"--shape {shape!r} is unknown{suggestion(str(shape), known)}")
    named = options["name"] or source
    config = label_files.Config.model_validate(
        {**options, "kind": kind, "name": label_files.name_of(str(named)), "fields": typed_fields(fields)}
    )
    with open_console() as console:
        run = label_files.bring(config, source, workspace=workspace, console=console)
    print(f"run {run.id}: {run.path}")
    if run.summary["dropped"]:
        print(f"which rows were dropped, and why: {run.file('dropped.jsonl')}")


def send(workspace: Workspace, name: str, shape: str, path: Path, *, chat: bool) -> None:
    """Write the frozen labels of a run for another trainer and say what was left out."""
    known = [*dict.fromkeys(one for shapes in WRITTEN.values() for one in shapes), label_exports.JUDGEMENTS]
    if shape not in known:
        raise Usage(f"--shape {shape!r} is unknown{suggestion(shape, known)}")
    run = Run.find(workspace.runs, name)
    print(label_exports.account(label_exports.export(run, shape, path, chat=chat)))
    print(f"manifest: {path}.manifest.json; where the labels come from: {command(f'lineage {name}', workspace.root)}")


def typed_fields(typed: Sequence[str]) -> dict[str, str]:
    """Return our field -> the file's of `ours=theirs` texts."""
    found: dict[str, str] = {}
    for text in typed:
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs) or ours in found:
            raise Usage(f"--field {text!r} must read ours=theirs, each of ours once, for example prompt=question")
        found[ours] = theirs
    return found
