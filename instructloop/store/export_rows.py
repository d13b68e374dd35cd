"""Rows of exports: what each kind says of a submission, under the export's pseudonyms; no SQL and no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from instructloop.core.rankings import comparisons
from instructloop.core.records import Cohort, Completion, Prompt
from instructloop.store.frozen_lines import demonstration_line, head, ranking_line
from instructloop.store.pseudonyms import Pseudonyms
from instructloop.store.reports import ExportKind
from instructloop.store.rows import DemonstrationRow, RankingRow, TaskKind, Tiers

WHO = ("id", "labeler", "cohort", "origin", "task_set")
ASKED = ("prompt_id", "prompt", "split", "category", "user")
RANKED = ("completions", "shown", "tiers", "ratings", "flags")
COLUMNS: Mapping[ExportKind, tuple[str, ...]] = {
    "sft": (*WHO, *ASKED, "completion"),
    "rankings": (*WHO, *ASKED, *RANKED, "adjudicated_tiers"),
    "pairs": (
        *WHO, *ASKED, "chosen_id", "chosen", "chosen_policy", "rejected_id", "rejected", "rejected_policy",
        "num_pairs", "adjudicated",
    ),
    "judgements": (
        *WHO, *ASKED, "kind", "state", "is_latest", "revision_of", "task", "task_cohort", "submitted_at", "seconds",
        "active_seconds", "wall_seconds", "instruction_kind", "instruction_version", "completion", *RANKED, "notes",
        "adjudicated_tiers",
    ),
}  # fmt: skip
"""The columns of each kind, in the order of a CSV file; every row has all of them."""


@dataclass(frozen=True, slots=True)
class SubmissionRow:
    """A submission of either kind as it was given, with how it came about; what its kind lacks is None or empty."""

    id: str
    kind: TaskKind
    state: str
    is_latest: bool
    revision_of: str | None
    task_id: str
    task_set: str
    task_cohort: Cohort
    labeler: str
    cohort: Cohort
    origin: str
    submitted_at: datetime
    seconds: float | None
    active_seconds: float | None
    wall_seconds: float | None
    instruction_kind: str | None
    instruction_version: int | None
    prompt: Prompt
    text: str | None
    completions: tuple[Completion, ...]
    shown: tuple[str, ...]
    tiers: Tiers | None
    ratings: Mapping[str, int | None]
    flags: Mapping[str, Mapping[str, bool | None]]
    notes: Mapping[str, str]


def sft_row(row: DemonstrationRow, names: Pseudonyms) -> dict[str, Any]:
    """Return a demonstration as a row to train on."""
    return renamed(demonstration_line(row), names)


def ranking_row(row: RankingRow, adjudicated: Tiers | None, names: Pseudonyms) -> dict[str, Any]:
    """Return a ranking of K completions, with the researcher's order of the same task where there is one."""
    line = renamed(ranking_line(row), names)
    return line | ranked(row, names) | {"adjudicated_tiers": names.tiers(adjudicated)}


def pair_rows(row: RankingRow, adjudicated: Tiers | None, names: Pseudonyms) -> Iterator[dict[str, Any]]:
    """Yield a row for each two completions of different tiers; a tie yields none (paper 3.5).

    `num_pairs` is how many rows the ranking gives: they are one judgement, to be weighed as one, not so many.
    `adjudicated` says whether a researcher ordered the two likewise: "same", "opposite", "tied", or null.
    """
    pairs = list(comparisons(row.tiers))
    text_of = {completion.id: completion for completion in row.completions}
    common = renamed({key: value for key, value in ranking_line(row).items() if key in (*WHO, *ASKED)}, names)
    for chosen, rejected in pairs:
        yield common | {
            "chosen_id": names.of("completion", chosen),
            "chosen": text_of[chosen].text,
            "chosen_policy": text_of[chosen].policy,
            "rejected_id": names.of("completion", rejected),
            "rejected": text_of[rejected].text,
            "rejected_policy": text_of[rejected].policy,
            "num_pairs": len(pairs),
            "adjudicated": verdict(adjudicated, chosen, rejected),
        }


def verdict(adjudicated: Tiers | None, chosen: str, rejected: str) -> str | None:
    """Return how a researcher's order stands to a pair."""
    if adjudicated is None:
        return None
    place = {key: number for number, tier in enumerate(adjudicated) for key in tier}
    if place[chosen] == place[rejected]:
        return "tied"
    return "same" if place[chosen] < place[rejected] else "opposite"


def judgement_row(row: SubmissionRow, adjudicated: Tiers | None, names: Pseudonyms) -> dict[str, Any]:
    """Return a submission with everything that is known of it."""
    line = head(row.prompt) | {
        "id": row.id,
        "labeler": row.labeler,
        "cohort": row.cohort,
        "origin": row.origin,
        "task_set": row.task_set,
        "kind": row.kind,
        "state": row.state,
        "is_latest": row.is_latest,
        "revision_of": None if row.revision_of is None else names.of("submission", row.revision_of),
        "task": names.of("task", row.task_id),
        "task_cohort": row.task_cohort,
        "submitted_at": row.submitted_at.isoformat(),
        "seconds": row.seconds,
        "active_seconds": row.active_seconds,
        "wall_seconds": row.wall_seconds,
        "instruction_kind": row.instruction_kind,
        "instruction_version": row.instruction_version,
        "completion": row.text,
        "notes": names.keys(row.notes),
        "adjudicated_tiers": names.tiers(adjudicated),
    }
    return renamed(line, names) | ranked(row, names)


def ranked(row: RankingRow | SubmissionRow, names: Pseudonyms) -> dict[str, Any]:
    """Return what a labeler said of completions, under their names."""
    completions = [
        {"id": names.of("completion", one.id), "text": one.text, "policy": one.policy} for one in row.completions
    ]
    return {
        "completions": completions,
        "shown": names.completions(row.shown),
        "tiers": names.tiers(row.tiers),
        "ratings": names.keys(row.ratings),
        "flags": names.keys(row.flags),
    }


def renamed(line: Mapping[str, Any], names: Pseudonyms) -> dict[str, Any]:
    """Return a row whose own id, prompt and persons have their names of this export."""
    return dict(line) | {
        "id": names.of("submission", line["id"]),
        "prompt_id": names.of("prompt", line["prompt_id"]),
        "labeler": names.of("person", line["labeler"]),
        "user": names.of("person", line["user"]),
    }
