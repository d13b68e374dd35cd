"""The frozen labels of a run as a file in the shape of another trainer, with a manifest that says what is in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from instructloop import __version__, files
from instructloop.core.records import CATEGORIES
from instructloop.formats.given import GivenCompletion, GivenDemonstration, GivenPrompt, GivenRanking, Unfit, in_tiers
from instructloop.formats.rows import suffix_of, write_rows
from instructloop.formats.writing import ONLY_PAIRS, WRITTEN, fields_of, pairs_of
from instructloop.recipes.label_rows import UNKNOWN, Labelled
from instructloop.runs import Run

JUDGEMENTS = "judgements"  # the frozen rows as they are
OWN_FIELDS = {"id": "label_id", "task_set": "batch", "split": "split", "cohort": "cohort", "origin": "origin"}
"""Field of a frozen row -> the name under which it goes along, where the row did not come from a file."""


def export(run: Run, shape: str, path: Path, *, chat: bool = False) -> dict[str, Any]:
    """Write a run's frozen labels to `path` and beside it `PATH.manifest.json`, which is returned.

    Judgements of held-out labelers and prompts of the test split stay out of every shape that trainers read. Each row
    is read back and says the same; what a shape cannot hold is dropped and counted. Equal labels give equal bytes.
    """
    kind = _kind(run)
    _check(kind, shape, path, chat=chat)
    run.verify()
    frozen = files.read_jsonl(run.file(f"{kind}.jsonl"))
    dropped = Counter[str]()
    if shape == JUDGEMENTS:
        rows = frozen
    else:
        rows = [*_rows(_for_training(frozen, dropped), _beside(run), shape, dropped, chat=chat)]
    if not rows:
        raise ValueError(f"{run.id}: no row can be written as {shape}{_listed(dropped)}")
    write_rows(path, rows)
    manifest: dict[str, Any] = {
        "file": path.name,
        "sha256": files.hash_file(path),
        "shape": shape,
        "chat": chat,
        "rows": len(rows),
        "labels": len(frozen),
        "dropped": dict(sorted(dropped.items())),
        "labelers": dict(sorted(Counter(row["labeler"] for row in frozen).items())),
        "run": run.id,
        "run_sha256": run.outputs[f"{kind}.jsonl"],
        "version": __version__,
    }
    files.write_atomic(path.with_name(f"{path.name}.manifest.json"), json.dumps(manifest, indent=2) + "\n")
    return manifest


def account(manifest: Mapping[str, Any]) -> str:
    """Return in words what an export wrote and left out."""
    return (
        f"{manifest['file']}: {manifest['rows']} rows of shape {manifest['shape']} from {manifest['labels']} labels"
        f"{_listed(manifest['dropped'])}; sha256 {manifest['sha256'][:12]}"
    )


def label_of(row: Mapping[str, Any], beside: Mapping[str, Any] | None = None) -> Labelled:
    """Return a frozen row as the label that it was; `beside` is what else the file said from which it came."""
    about = dict(beside["fields"]) if beside else {our: row[own] for own, our in OWN_FIELDS.items()}
    has_own = about.get("category", "") in (*CATEGORIES, None)  # another row of the prompt said something else
    category = about.pop("category") if has_own else row["category"]
    about = {name: value for name, value in about.items() if value is not None}
    origin = row["origin"]
    user = None if row["user"].startswith(f"{origin}/") else row["user"]
    prompt = GivenPrompt(row["prompt"], user, category, about)
    labeler = None if row["labeler"] == origin or row["labeler"].startswith(f"{origin}#") else row["labeler"]
    if "completion" in row:
        return GivenDemonstration(prompt, row["completion"], labeler)
    place = {key: -number for number, tier in enumerate(row["tiers"]) for key in tier}
    of_each = beside["completions"] if beside else {}
    completions = [
        GivenCompletion(
            each["text"],
            None if each["policy"] == UNKNOWN else each["policy"],
            row["ratings"].get(each["id"]),
            of_each.get(each["id"], {}) if beside else _said_of(each["id"], row),
        )
        for each in row["completions"]
    ]
    return GivenRanking(prompt, in_tiers(completions, [place[each["id"]] for each in row["completions"]]), labeler)


def _said_of(completion: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a labeler in the app answered of one completion, and at which place they saw it."""
    answered = {flag: yes for flag, yes in row["flags"].get(completion, {}).items() if yes is not None}
    found: dict[str, Any] = {"flags": answered} if answered else {}
    return found | ({"shown": row["shown"].index(completion)} if completion in row["shown"] else {})


def _rows(
    frozen: Iterable[Mapping[str, Any]],
    beside: Mapping[str, Mapping[str, Any]],
    shape: str,
    dropped: Counter[str],
    *,
    chat: bool,
) -> Iterator[dict[str, Any]]:
    for row in frozen:
        label = label_of(row, beside.get(row["id"]))
        parts = [*pairs_of(label)] if shape in ONLY_PAIRS and isinstance(label, GivenRanking) else [label]
        if not parts:
            dropped["without a better and a worse completion"] += 1
        for part in parts:
            try:
                yield fields_of(part, shape, chat=chat)
            except Unfit as error:
                dropped[str(error)] += 1


def _for_training(frozen: Iterable[dict[str, Any]], dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows that a trainer may see (paper 3.2 and 3.4)."""
    for row in frozen:
        if row["cohort"] == "heldout":
            dropped["by held-out labelers, who judge evaluations only"] += 1
        elif row["split"] == "test":
            dropped["prompt of the test split"] += 1
        else:
            yield row


def _beside(run: Run) -> dict[str, dict[str, Any]]:
    if "beside.jsonl" not in run.outputs:
        return {}
    return {row["id"]: row for row in files.read_jsonl(run.file("beside.jsonl"))}


def _kind(run: Run) -> Any:
    for kind in reversed(WRITTEN):  # beside rankings there may be demonstrations that were made of them
        if f"{kind}.jsonl" in run.outputs:
            return kind
    files_there = ", ".join(run.outputs) or "nothing: it is not finished"
    raise ValueError(f"{run.id} holds no frozen demonstrations or rankings but {files_there}")


def _check(kind: Any, shape: str, path: Path, *, chat: bool) -> None:
    shapes = (*WRITTEN[kind], JUDGEMENTS)
    if shape not in shapes:
        raise ValueError(f"shape {shape!r}: {kind} can be written as {', '.join(shapes)}")
    if chat and shape in ("messages", JUDGEMENTS):
        raise ValueError(f"--chat has no effect on shape {shape}")
    suffix_of(path)
    if path.exists():
        raise ValueError(f"{path} exists already; choose another name or delete it")


def _listed(dropped: Mapping[str, int]) -> str:
    return "; left out: " + ", ".join(f"{number} {reason}" for reason, number in dropped.items()) if dropped else ""
