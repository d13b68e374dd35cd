"""Exports for people outside the loop: a file of rows under pseudonyms of its own, with a manifest beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from instructloop.store.reports import ExportKind, ExportOptions
from instructloop.store.store import Store


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: the file, its manifest's file, and what the manifest says."""

    path: Path
    manifest_path: Path
    manifest: Mapping[str, Any]


def export(store: Store, kind: ExportKind, path: Path, *, options: ExportOptions, now: datetime) -> Exported:
    """Write rows of a kind to `path` and `PATH.manifest.json` beside it, each whole or not at all.

    "judgements": all that people ever submitted, revisions and surplus ones too; "sft", "rankings" and "pairs" are
    training data: never a held-out labeler's judgement, never a prompt of the test split. Every id of a person or row
    is a pseudonym made for this export alone.
    """
    raise NotImplementedError
