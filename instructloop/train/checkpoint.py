"""Checkpoints of a run under way: written atomically, verified by hash, rotated; nothing here knows what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast

import torch

from instructloop.files import naming, write_atomic


class Stateful(Protocol):
    """What a checkpoint holds: anything that gives its state and takes it back."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class _Hashing:
    """A file that takes the SHA-256 of what is written to it on the way, and keeps the error that writing met."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


class Checkpoints:
    """The checkpoints of one run in a folder: `STEP.pt` with the state and `STEP.json` with its hash and its owner.

    The JSON is renamed into place last, so a checkpoint without it is unfinished and counts as not there.
    """

    def __init__(self, folder: Path, owner: str, *, num_kept: int = 2):
        self.folder = folder
        self.owner = owner
        self.num_kept = num_kept

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after `step` steps (tensors, numbers, strings, lists, dicts), then drop the oldest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self.path(step)
        partial = weights.with_suffix(".partial")
        try:
            with naming(weights), partial.open("wb") as file:
                hashing = _Hashing(file)
                _save(state, hashing)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(weights)
        finally:
            partial.unlink(missing_ok=True)
        record = {"step": step, "owner": self.owner, "sha256": hashing.digest.hexdigest(), "bytes": hashing.num_bytes}
        write_atomic(weights.with_suffix(".json"), json.dumps(record) + "\n")
        self._rotate()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Return (step, state) of the latest checkpoint, None when there is none.

        ValueError naming its file when it is torn, not what was written, or belongs to another run.
        """
        steps = self._steps()
        if not steps:
            return None
        path = self.path(steps[-1])
        record = _record(path.with_suffix(".json"))
        if record["owner"] != self.owner:
            raise ValueError(f"checkpoint {path} belongs to run {record['owner']}, not to {self.owner}")
        if record["step"] != steps[-1]:
            raise ValueError(f"checkpoint {path} was renamed: it was written after step {record['step']}")
        num_bytes = path.stat().st_size if path.exists() else 0
        if num_bytes != record["bytes"]:
            raise _damaged(path, f"{num_bytes} of {record['bytes']} bytes are there")
        if _sha256(path) != record["sha256"]:
            raise _damaged(path, "its content is not what was written")
        return steps[-1], torch.load(path, map_location="cpu", weights_only=True)

    def restore(self, parts: Mapping[str, Stateful]) -> int:
        """Load the latest checkpoint into `parts`; return its step, 0 without one.

        ValueError naming its file when it holds other parts, or a part says that it is not its own.
        """
        found = self.load()
        if found is None:
            return 0
        step, state = found
        if state.keys() != parts.keys():
            held, needed = (", ".join(sorted(names)) for names in (state, parts))
            raise ValueError(f"checkpoint {self.path(step)} holds {held}; this run needs {needed}")
        for name, part in parts.items():
            try:
                part.load_state_dict(state[name])
            except (ValueError, RuntimeError) as error:  # torch raises the second for weights of other shapes
                raise ValueError(f"checkpoint {self.path(step)} does not fit this run, {name}: {error}") from error
        return step

    def path(self, step: int) -> Path:
        """Return the file of the state after `step` steps."""
        return self.folder / f"{step:08d}.pt"

    def clear(self) -> None:
        """Delete them all: the run is finished and its outputs are what remains."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.json") if path.stem.isdecimal())

    def _rotate(self) -> None:
        kept = {f"{step:08d}" for step in self._steps()[-self.num_kept :]}
        for path in sorted(self.folder.iterdir()):  # .json before .pt: a record never outlives its state
            if path.stem not in kept:
                path.unlink()


def _save(state: Mapping[str, Any], file: _Hashing) -> None:
    """Write the state; torch hides the error of a full disk behind one of its own, which is undone here."""
    try:
        torch.save(dict(state), cast(IO[bytes], file))
    except RuntimeError as error:
        raise file.error or error from None


def _record(path: Path) -> dict[str, Any]:
    """Return what stands beside a checkpoint; ValueError when that file is torn."""
    names = {"step": int, "owner": str, "sha256": str, "bytes": int}
    try:
        record: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise _damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(record, dict) or any(not isinstance(record.get(name), kind) for name, kind in names.items()):
        raise _damaged(path, f"it must hold {', '.join(names)}")
    return record


def _damaged(path: Path, how: str) -> ValueError:
    return ValueError(
        f"checkpoint {path} is damaged: {how}. Delete {path.stem}.pt and {path.stem}.json to resume from the one before"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
