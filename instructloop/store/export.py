"""Exports for people outside the loop: a file of rows under pseudonyms of its own, with a manifest beside it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import instructloop
from instructloop.files import write_atomic
from instructloop.store.checks import check_time
from instructloop.store.export_options import TRAINING, Selection, selected
from instructloop.store.export_rows import COLUMNS, judgement_row, pair_rows, ranking_row, sft_row
from instructloop.store.freeze import Frozen, freeze_demonstrations, freeze_rankings, write_lines
from instructloop.store.frozen_lines import canonical, kept
from instructloop.store.pseudonyms import Pseudonyms
from instructloop.store.reports import ExportKind, ExportOptions
from instructloop.store.rows import TaskKind
from instructloop.store.store import Store

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""Beginnings of a cell that a spreadsheet takes for a formula, the full-width ones of East Asian input among them."""

RULES = {
    "held_out": "Training kinds (sft, rankings, pairs) hold no judgement of a held-out labeler, nor one on a task of "
    "the held-out cohort, and no prompt of the test split.",
    "ties": "Completions in one tier are tied; a tied pair makes no row of pairs.",
    "pseudonyms": "Every id is a pseudonym of this export alone. Equal texts in two exports are still equal texts.",
    "csv": "In CSV a cell that begins like a formula has a ' before it; lists and objects are JSON. JSON lines are "
    "without loss.",
}


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
    is a pseudonym made for this export alone. "frozen" is the loop's own file of one set and cohort, with its own ids.
    """
    check_time(now)
    sets: dict[str, TaskKind] = {progress.task_set: progress.kind for progress in store.task_sets()}
    selection = selected(kind, options, sets)
    manifest: dict[str, Any] = {
        "kind": kind,
        "format": options.format,
        "task_sets": list(selection.task_sets),
        "cohorts": list(selection.cohorts),
        "created_at": now.isoformat(),
        "instructloop": instructloop.__version__,
        "file": path.name,
    }
    if kind == "frozen":
        manifest["purpose"] = "evaluation" if selection.cohorts == ("heldout",) else "train"
        freeze = freeze_rankings if sets[selection.task_sets[0]] == "compare" else freeze_demonstrations
        cohorts = frozenset(selection.cohorts)
        frozen = freeze(store, selection.task_sets, cohorts=cohorts, purpose=manifest["purpose"], path=path)
    else:
        dropped: Counter[str] = Counter()
        frozen = written(path, rows(store, kind, selection, dropped), COLUMNS[kind], dropped, options.format)
        manifest |= {"columns": list(COLUMNS[kind]), "rules": RULES}
    manifest |= {"sha256": frozen.sha256, "num_bytes": path.stat().st_size}
    manifest |= {"num_rows": frozen.num_rows, "dropped": frozen.dropped}
    manifest_path = path.with_name(f"{path.name}.manifest.json")
    write_atomic(manifest_path, json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return Exported(path, manifest_path, manifest)


def rows(store: Store, kind: ExportKind, selection: Selection, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an export; what training data may not hold is counted as dropped."""
    names = Pseudonyms()
    task_sets, cohorts = selection.task_sets, selection.cohorts
    adjudicated = store.exports.adjudicated()
    if kind in TRAINING:
        dropped.update(store.left_out(task_sets, cohorts))
    if kind == "sft":
        for row in kept(store.demonstrations(task_sets, cohorts), cohorts, "train", dropped):
            yield sft_row(row, names)
    elif kind == "judgements":
        for row in store.exports.submissions(task_sets, cohorts):
            yield judgement_row(row, adjudicated.get(row.id), names)
    else:
        for row in kept(store.rankings(task_sets, cohorts), cohorts, "train", dropped):
            if kind == "rankings":
                yield ranking_row(row, adjudicated.get(row.id), names)
            else:
                yield from pair_rows(row, adjudicated.get(row.id), names)


def written(
    path: Path, lines: Iterable[dict[str, Any]], columns: Sequence[str], dropped: Counter[str], file_format: str
) -> Frozen:
    """Write rows in a format, and return the file, its hash, the number of rows and what was dropped."""
    if file_format == "jsonl":
        return write_lines(path, map(canonical, lines), dropped)
    frozen = write_lines(path, csv_lines(lines, columns), dropped)
    return Frozen(frozen.path, frozen.sha256, frozen.num_rows - 1, frozen.dropped)


def csv_lines(lines: Iterable[dict[str, Any]], columns: Sequence[str]) -> Iterator[bytes]:
    """Yield a header and the rows as CSV in UTF-8 (RFC 4180: commas, CRLF), every cell in quotes."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for line in lines:
        yield taken(buffer)
        writer.writerow([cell(line[column]) for column in columns])
    yield taken(buffer)


def taken(buffer: io.StringIO) -> bytes:
    """Return what a buffer holds and empty it."""
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text.encode()


def cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula; null is an empty cell."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return f"'{value}" if value.startswith(FORMULA) else value
