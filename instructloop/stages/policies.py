"""From a run to the policy it made: a model folder and, for a prompted baseline, the prefix before every prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instructloop.runs import Run

if TYPE_CHECKING:
    from instructloop.models.sampler import Policy


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """Where a policy's weights lie and the few-shot prefix that belongs to it."""

    folder: Path
    prefix: str


def policy_files(run: Run) -> PolicyFiles:
    """Return the policy of a run: its `model/`, or what its `choice.json` points to in one of its parents."""
    if "choice.json" in run.outputs:
        choice = json.loads(run.file("choice.json").read_text())["chosen"]
        parent = policy_files(run.parents[choice["role"]])
        folder = run.parents[choice["role"]].file(choice["folder"]) if choice["folder"] else parent.folder
        return PolicyFiles(folder, choice["prefix"] or parent.prefix)
    if "model" not in run.outputs:
        raise ValueError(f"run {run.id} made no policy: its outputs are {', '.join(sorted(run.outputs))}")
    return PolicyFiles(run.file("model"), "")


def weight_files(run: Run) -> dict[str, str]:
    """Return the SHA-256 of each file of weights in a run's `model/`: equal ones, equal weights."""
    found = {name: sha for name, sha in run.manifest.files.items() if Path(name).match("model/*.safetensors")}
    assert found, f"{run.id} has no weights"
    return found


def load_policy(name: str, run: Run) -> Policy:
    """Load the policy of a run under a name."""
    from instructloop.models.sampler import Policy

    files = policy_files(run)
    return Policy.load(files.folder, name=name, prefix=files.prefix)
