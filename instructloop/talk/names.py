"""Which model a name means: a run of the workspace, a model added to this machine, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instructloop.models import added
from instructloop.models.kinds import Kind, kind_of
from instructloop.runs import Run, published
from instructloop.stages.policies import policy_files
from instructloop.workspace import FILE, Workspace, suggestion

if TYPE_CHECKING:
    from instructloop.models.sampler import Policy
    from instructloop.models.scalar import Scorer


@dataclass(frozen=True, slots=True)
class Found:
    """A model folder under the name by which it was asked for, and the few-shot prefix that belongs to it."""

    name: str
    folder: Path
    prefix: str = ""
    run: Run | None = None  # that it was asked for as


def find_model(name: str, directory: Path | None, wanted: Kind) -> Found:
    """Return the model that `name` means; ValueError when there is none, or one of another kind.

    In this order: a published name, a run's name or a whole id in the workspace `directory` (None: the folder we are
    in, if it is one); an added model; a folder; the start of a run's id.
    """
    runs = _runs(directory)
    found = _find(name, runs)
    if found is None:
        known = [*_names(runs), *added.read()]
        told = suggestion(name, known) if known else "; no workspace and no added model is known here"
        raise ValueError(f"no model is called {name!r} and no folder{told} (`instructloop models add` adds one)")
    kind = kind_of(found.folder)
    if kind != wanted:
        verb = {"policy": "chat", "reward model": "score"}[kind]
        raise ValueError(f"{name} ({found.folder}) is a {kind}, not a {wanted}: try `instructloop {verb} {name}`")
    return found


def load_policy(found: Found) -> Policy:
    """Load a policy to where there is room to run it: a GPU if there is one."""
    from instructloop.models.sampler import Policy
    from instructloop.train.device import to_training_device

    policy = Policy.load(found.folder, name=found.name, prefix=found.prefix)
    to_training_device(policy.model)
    return policy


def load_scorer(found: Found) -> Scorer:
    """Load a reward model likewise."""
    from instructloop.models.scalar import Scorer
    from instructloop.train.device import to_training_device

    scorer = Scorer.load(found.folder)
    to_training_device(scorer.model)
    return scorer


def _runs(directory: Path | None) -> Path | None:
    """Return where the runs are; None where nobody named a workspace and there is none."""
    if directory is None and not Path(FILE).exists():
        return None
    return Workspace.open(directory or Path()).runs


def _names(runs: Path | None) -> list[str]:
    if runs is None:
        return []
    return sorted({*published(runs), *(run.name for run in Run.all(runs) if "model" in run.outputs)})


def _find(name: str, runs: Path | None) -> Found | None:
    if runs is not None and (name in published(runs) or any(name in (run.name, run.id) for run in Run.all(runs))):
        return _of_run(name, Run.find(runs, name))
    if name in added.read():
        return Found(name, added.folder(name))
    if Path(name).is_dir():
        return _of_folder(Path(name))
    if runs is not None and any(_begins(run.id, name) for run in Run.all(runs)):
        return _of_run(name, Run.find(runs, name))
    return None


def _begins(run_id: str, name: str) -> bool:
    return run_id.startswith(name) or run_id.rsplit("-", 1)[1].startswith(name)


def _of_folder(path: Path) -> Found:
    """Return a model folder, or that of a run's folder."""
    if (path / "manifest.json").exists():
        return _of_run(path.name, Run.load(path))
    return Found(path.resolve().name, path)


def _of_run(name: str, run: Run) -> Found:
    if not run.is_done:
        raise ValueError(f"{name}: run {run.id} is not finished")
    files = policy_files(run)
    return Found(name, files.folder, files.prefix, run)
