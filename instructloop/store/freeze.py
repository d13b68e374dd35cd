"""Rows of the store as files for training and evaluation: sorted JSON lines, equal rows giving equal bytes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from instructloop.files import naming
from instructloop.store.frozen_lines import Purpose, canonical, check_purpose, demonstration_line, kept, ranking_line
from instructloop.store.store import Store


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen file, its hash, its number of rows, and the submissions left out by reason."""

    path: Path
    sha256: str
    num_rows: int
    dropped: dict[str, int]


def freeze_demonstrations(
    store: Store, task_sets: Collection[str], *, cohorts: frozenset[str], purpose: Purpose, path: Path
) -> Frozen:
    """Write the demonstrations of these cohorts to `path` as JSON lines sorted by id; ValueError as `check_purpose`.

    Only the latest revision of an accepted submission is written. For training, prompts of the test split stay out:
    their users are held out (paper 3.2).
    """
    check_purpose(cohorts, purpose)
    dropped = Counter(store.left_out(task_sets, cohorts))
    rows = kept(store.demonstrations(task_sets, cohorts), cohorts, purpose, dropped)
    return write_lines(path, (canonical(demonstration_line(row)) for row in rows), dropped)


def freeze_rankings(
    store: Store, task_sets: Collection[str], *, cohorts: frozenset[str], purpose: Purpose, path: Path
) -> Frozen:
    """Write the rankings of these cohorts to `path`, under the same rules as `freeze_demonstrations`."""
    check_purpose(cohorts, purpose)
    dropped = Counter(store.left_out(task_sets, cohorts))
    rows = kept(store.rankings(task_sets, cohorts), cohorts, purpose, dropped)
    return write_lines(path, (canonical(ranking_line(row)) for row in rows), dropped)


def write_lines(path: Path, lines: Iterator[bytes], dropped: Counter[str]) -> Frozen:
    """Write the file whole or not at all: beside its place, synced to disk, then renamed."""
    digest, num_rows = hashlib.sha256(), 0
    beside = path.with_name(f".{path.name}.part")
    try:
        with naming(path), beside.open("wb") as file:
            for line in lines:
                file.write(line)
                digest.update(line)
                num_rows += 1
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    return Frozen(path, digest.hexdigest(), num_rows, dict(sorted(dropped.items())))
