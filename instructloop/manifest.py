"""The manifest of a run: what is written down about it, its id, its seal; how a run comes about is not known here."""
# pyright: strict

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from instructloop import __version__
from instructloop.files import canonical_json, hash_file, hash_tree, write_atomic

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
"""What a run, a published policy and an added model may be called; a name is a folder's, too."""


class Parent(BaseModel):
    """What a run's manifest keeps of one parent: which run, and the hashes of what it offered."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    outputs: dict[str, str]


class Manifest(BaseModel):
    """All that is written down about a run; `seal` is the SHA-256 of the rest, so that an edit shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    stage: str
    name: str
    round: int
    status: Literal["running", "done"]
    config: dict[str, Any]
    version: str
    source_sha256: str  # of the package's files: recorded, no part of the id
    parents: dict[str, Parent]
    inputs: dict[str, str]
    outputs: dict[str, str] = {}
    files: dict[str, str] = {}  # every file of the outputs, so that an error can name it
    summary: dict[str, Any] = {}
    started: str
    resumed: list[str] = []
    finished: str | None = None
    seconds: float | None = None  # of the last go, after an interruption
    machine: str
    python: str
    torch: str | None
    seal: str = ""

    def sealed(self) -> Manifest:
        """Return this manifest with its seal."""
        rest = self.model_dump(mode="json", exclude={"seal"})
        return self.model_copy(update={"seal": hashlib.sha256(canonical_json(rest).encode()).hexdigest()})


def identity(
    stage: str,
    *,
    name: str,
    round: int,  # noqa: A002
    config: Mapping[str, Any],
    version: str,
    outputs: Mapping[str, Mapping[str, str]],
    inputs: Mapping[str, str],
) -> str:
    """Return the id: round and name in clear, the rest hashed; `outputs` are the parents' by role.

    No time, place or machine enters, and no parent's id: a parent counts by what it offers.
    """
    data = {role: dict(hashes) for role, hashes in outputs.items()}
    digest = hashlib.sha256(
        canonical_json([stage, name, dict(config), version, data, dict(inputs)]).encode()
    ).hexdigest()
    return f"r{round:02d}-{name}-{digest[:8]}"


def new_manifest(
    run_id: str,
    stage: str,
    *,
    name: str,
    round: int,  # noqa: A002
    config: Mapping[str, Any],
    parents: Mapping[str, Parent],
    inputs: Mapping[str, str],
) -> Manifest:
    """Return the manifest of a run that begins now, on this machine, with this code."""
    return Manifest(
        id=run_id,
        stage=stage,
        name=name,
        round=round,
        status="running",
        config=json.loads(canonical_json(dict(config))),
        version=__version__,
        source_sha256=source_sha256(),
        parents=dict(parents),
        inputs=dict(inputs),
        started=now(),
        machine=f"{platform.platform()}, {os.cpu_count()} cores",
        python=platform.python_version(),
        torch=importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None,
    ).sealed()


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in folder `path`; ValueError naming the file when it is missing, torn or edited."""
    file = path / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{path} is no run folder: it has no manifest.json") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{file} is torn or was edited by hand: {where}: {first['msg']}") from error
    expected = identity(
        manifest.stage,
        name=manifest.name,
        round=manifest.round,
        config=manifest.config,
        version=manifest.version,
        outputs={role: parent.outputs for role, parent in manifest.parents.items()},
        inputs=manifest.inputs,
    )
    if manifest.sealed().seal != manifest.seal or not manifest.id == path.name == expected:
        raise ValueError(f"{file} was edited by hand or its folder renamed: what it says does not fit its seal and id")
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest into folder `path`: the old one or the new one is there, whole, whatever happens."""
    write_atomic(path / "manifest.json", json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")


@cache
def source_sha256() -> str:
    """Return the SHA-256 over the package's Python files: which code made a run."""
    package = Path(__file__).parent
    files = {path.relative_to(package.parent).as_posix(): path for path in package.rglob("*.py")}
    return hash_tree(package.name, {name: hash_file(path) for name, path in files.items()})


def now() -> str:
    """Return the time in UTC as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
