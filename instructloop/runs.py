"""Run folders: start, metrics, finish, lineage and published names; what is computed in a run is not known here."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from instructloop import __version__, files
from instructloop.manifest import NAME, Manifest, Parent, identity, new_manifest, now, read_manifest, write_manifest

RUN_ID = re.compile(r"r\d{2,}-[a-z0-9][a-z0-9_.-]*-[0-9a-f]{8}")


class Run:
    """A handle to one run folder; everything it tells is read from there, so two handles never disagree."""

    __slots__ = ("_began", "_has_logged", "id", "name", "path", "resumed", "round", "stage")

    def __init__(self, path: Path, manifest: Manifest, *, resumed: bool = False):
        self.path = path
        self.id = manifest.id
        self.stage = manifest.stage
        self.name = manifest.name
        self.round = manifest.round
        self.resumed = resumed
        self._began = time.monotonic()
        self._has_logged = False

    @staticmethod
    def identify(
        stage: str,
        *,
        name: str,
        round: int,  # noqa: A002 - the word of the field
        config: Mapping[str, Any],
        parents: Mapping[str, Run],
        inputs: Mapping[str, str] | None = None,
    ) -> str:
        """Return the id that `start` would give: round, name and a hash of stage, configuration, version and data."""
        if not NAME.fullmatch(name) or not NAME.fullmatch(stage):
            raise ValueError(f"run name {name!r} and stage {stage!r} must be lower-case letters, digits, _ . or -")
        return identity(
            stage,
            name=name,
            round=round,
            config=config,
            version=__version__,
            outputs={role: parent.outputs for role, parent in parents.items()},
            inputs=inputs or {},
        )

    @staticmethod
    def start(
        root: Path,
        stage: str,
        *,
        name: str,
        round: int,  # noqa: A002
        config: Mapping[str, Any],
        parents: Mapping[str, Run],
        inputs: Mapping[str, str] | None = None,
    ) -> Run:
        """Begin a run, or go on with the one of the same id that a dead process left (`resumed` is then True).

        Raises ValueError for an unfinished or edited parent, and for a run that is finished or being worked on.
        """
        for role, parent in parents.items():
            if not parent.is_done:
                raise ValueError(f"{name}: parent {role} ({parent.id}) is not finished; finish it first")
            parent.verify()
        run_id = Run.identify(stage, name=name, round=round, config=config, parents=parents, inputs=inputs)
        path = root / run_id
        _refuse_finished(path)
        path.mkdir(parents=True, exist_ok=True)
        files.lock(path)
        _refuse_finished(path)
        files.sweep(path)
        if (path / "manifest.json").exists():
            manifest = read_manifest(path)
            manifest = manifest.model_copy(update={"resumed": [*manifest.resumed, now()]}).sealed()
            write_manifest(path, manifest)
            return Run(path, manifest, resumed=True)
        made_from = {role: Parent(id=parent.id, outputs=parent.outputs) for role, parent in parents.items()}
        manifest = new_manifest(
            run_id, stage, name=name, round=round, config=config, parents=made_from, inputs=inputs or {}
        )
        write_manifest(path, manifest)
        return Run(path, manifest)

    @staticmethod
    def load(path: Path) -> Run:
        """Return the run in folder `path`; ValueError when its manifest is missing, torn or edited."""
        return Run(path, read_manifest(path))

    @staticmethod
    def get(root: Path, run_id: str) -> Run | None:
        """Return the run of exactly this id, finished or not; None when there is none."""
        return Run.load(root / run_id) if (root / run_id / "manifest.json").exists() else None

    @staticmethod
    def all(root: Path) -> list[Run]:
        """Return every run under `root`, oldest round first, within a round in the order they started."""
        paths = [path for path in root.glob("r*") if RUN_ID.fullmatch(path.name) and (path / "manifest.json").exists()]
        runs = [Run.load(path) for path in paths]
        return sorted(runs, key=lambda run: (run.round, run.manifest.started, run.id))

    @staticmethod
    def find(root: Path, what: str) -> Run:
        """Return the run that `what` means: a published name, a run's name (the latest), an id or the start of one."""
        known = published(root)
        if what in known:
            return Run.load(root / known[what])
        runs = Run.all(root)
        if named := [run for run in runs if run.name == what]:
            return max(named, key=lambda run: (run.is_done, run.round, run.manifest.started))
        matches = [run for run in runs if run.id.startswith(what) or run.id.rsplit("-", 1)[1].startswith(what)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ValueError(
                f"{what!r} means several runs: {', '.join(run.id for run in matches)}; write more of the id"
            )
        names = sorted({*known, *(run.name for run in runs)})
        raise ValueError(f"no run is called {what!r}; there are {', '.join(names) or 'no runs yet'}")

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.path)

    @property
    def is_done(self) -> bool:
        return self.manifest.status == "done"

    @property
    def config(self) -> dict[str, Any]:
        return self.manifest.config

    @property
    def inputs(self) -> dict[str, str]:
        """Name -> SHA-256 of the data from outside that the run read."""
        return self.manifest.inputs

    @property
    def outputs(self) -> dict[str, str]:
        """Name -> SHA-256 of what the run offers to its children; empty until it is done."""
        return self.manifest.outputs

    @property
    def finished(self) -> str:
        """When it was done, UTC; empty until then."""
        return self.manifest.finished or ""

    @property
    def summary(self) -> dict[str, Any]:
        return self.manifest.summary

    @property
    def parents(self) -> dict[str, Run]:
        """Role -> parent run; ValueError when one is gone or is no longer what it was."""
        found: dict[str, Run] = {}
        for role, record in self.manifest.parents.items():
            parent = Run.get(self.path.parent, record.id)
            if parent is None:
                raise ValueError(f"{self.id}: its parent {role} ({record.id}) is gone from {self.path.parent}")
            if parent.outputs != record.outputs:
                raise ValueError(f"{self.id}: its parent {role} ({record.id}) is no longer the one it was made from")
            found[role] = parent
        return found

    @property
    def owner_pid(self) -> int | None:
        """The process that works on this run now; None when nobody does."""
        return files.owner(self.path)

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files or folders."""
        return self.path / name

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl; what is not finite becomes null.

        The first line after a start or resume drops all of that step and later, left by the go that was interrupted.
        """
        if not self._has_logged:
            self.truncate_metrics(step - 1)
        values = {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        path = self.file("metrics.jsonl")
        with files.naming(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")

    def truncate_metrics(self, step: int) -> None:
        """Keep of metrics.jsonl what was logged up to and including `step`: the step that training resumes from."""
        self._has_logged = True
        if self.file("metrics.jsonl").exists():
            kept = [row for row in self.metrics() if row["step"] <= step]
            files.write_atomic(self.file("metrics.jsonl"), "".join(json.dumps(row) + "\n" for row in kept))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a last line that a crash tore is left out."""
        path = self.file("metrics.jsonl")
        return files.read_jsonl(path, keep_torn_end=False) if path.exists() else []

    def finish(self, *outputs: str, summary: Mapping[str, Any] | None = None) -> Run:
        """Hash the named files and folders, bring them to the disk, then write `done`; return this run.

        Raises ValueError when an output is missing or empty, or the summary is no JSON.
        """
        if self.is_done:
            raise ValueError(f"{self.id} is finished already")
        hashes: dict[str, str] = {}
        for name in outputs:
            found = files.hash_files(self.path, name)
            if not found:
                raise ValueError(f"{self.id}: output {name} was not written, or is an empty folder")
            hashes.update(found)
        for file in hashes:
            files.sync(self.path / file)
        update: dict[str, Any] = {
            "status": "done",
            "outputs": {name: files.hash_tree(name, hashes) for name in outputs},
            "files": hashes,
            "summary": json.loads(files.canonical_json(dict(summary or {}))),
            "finished": now(),
            "seconds": round(time.monotonic() - self._began, 3),
        }
        write_manifest(self.path, self.manifest.model_copy(update=update).sealed())
        files.unlock(self.path)
        return self

    def verify(self) -> None:
        """Hash the outputs again; ValueError naming the file that was edited, added or removed since `finish`."""
        manifest = self.manifest
        for name in manifest.outputs:
            was = {file: sha for file, sha in manifest.files.items() if file == name or file.startswith(f"{name}/")}
            found = files.hash_files(self.path, name)
            for file in sorted({*was, *found}):
                if was.get(file) != found.get(file):
                    how = "removed" if file not in found else "added" if file not in was else "edited"
                    raise ValueError(
                        f"{self.path / file} was {how} after run {self.id} finished; put it back as it was, "
                        f"or delete the run folder and run the step again"
                    )

    def __repr__(self) -> str:
        return f"Run({self.id})"


@dataclass(frozen=True, slots=True)
class Lineage:
    """A run with its ancestors; `role` is what it was to the run below it, empty at the root of the tree."""

    role: str
    run: Run
    parents: tuple[Lineage, ...]


def lineage(run: Run, role: str = "", known: dict[Path, tuple[Lineage, ...]] | None = None) -> Lineage:
    """Return the tree of a run's ancestors down to the runs that read only data from outside.

    `known` holds what has been read: a run that several others came from is read once.
    """
    known = {} if known is None else known
    if run.path not in known:
        known[run.path] = tuple(lineage(parent, key, known) for key, parent in run.parents.items())
    return Lineage(role, run, known[run.path])


def publish(root: Path, name: str, run: Run) -> None:
    """Give a finished run a name (`ppo_ptx`) that serving, evaluation and the next round ask for."""
    if not NAME.fullmatch(name):
        raise ValueError(f"name {name!r} must be lower-case letters, digits, _ . or -")
    if not run.is_done:
        raise ValueError(f"{run.id} is not finished, so it cannot be published as {name}")
    names = {**published(root), name: run.id}
    files.write_atomic(root / "names.json", json.dumps(dict(sorted(names.items())), indent=2) + "\n")


def published(root: Path) -> dict[str, str]:
    """Return name -> run id of what is published under `root`."""
    path = root / "names.json"
    if not path.exists():
        return {}
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(names, dict) or not all(isinstance(v, str) for v in cast(dict[str, object], names).values()):
        raise ValueError(f"{path} must map names to run ids")
    return cast(dict[str, str], names)


def _refuse_finished(path: Path) -> None:
    if (path / "manifest.json").exists() and read_manifest(path).status == "done":
        raise ValueError(f"{path.name} is finished already: same configuration, same data; nothing is left to do")
