"""Checkpoints of a run under way: written atomically, verified by hash, rotated; nothing here knows what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from instructloop.files import naming, write_atomic


class _Hashing:
    """A file that takes the SHA-256 of what is written to it on the way."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self.file.write(data)

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
        weights = self.folder / f"{step:08d}.pt"
        partial = weights.with_suffix(".partial")
        try:
            with naming(weights), partial.open("wb") as file:
                hashing = _Hashing(file)
                torch.save(dict(state), cast(IO[bytes], hashing))
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

        ValueError when it is torn (its hash is not the recorded one) or belongs to another run.
        """
        steps = self._steps()
        if not steps:
            return None
        record = json.loads((self.folder / f"{steps[-1]:08d}.json").read_text())
        path = self.folder / f"{steps[-1]:08d}.pt"
        if record["owner"] != self.owner:
            raise ValueError(f"checkpoint {path} belongs to run {record['owner']}, not to {self.owner}")
        if not path.exists() or _sha256(path) != record["sha256"]:
            raise ValueError(
                f"checkpoint {path} is damaged: its content is not what was written. Delete it and its .json file "
                f"to resume from the one before"
            )
        return steps[-1], torch.load(path, map_location="cpu", weights_only=True)

    def clear(self) -> None:
        """Delete them all: the run is finished and its outputs are what remains."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.json"))

    def _rotate(self) -> None:
        kept = {f"{step:08d}" for step in self._steps()[-self.num_kept :]}
        for path in self.folder.iterdir():
            if path.stem not in kept:
                path.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
