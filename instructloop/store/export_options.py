"""What an export may hold: its kinds, the task sets and cohorts meant, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from instructloop.core.records import COHORTS
from instructloop.store.checks import check_word
from instructloop.store.frozen_lines import check_purpose
from instructloop.store.gold import PURPOSE_OF
from instructloop.store.reading import check_collection
from instructloop.store.reports import ExportKind, ExportOptions
from instructloop.store.rows import TaskKind

ASKS: Mapping[ExportKind, tuple[TaskKind, ...]] = {
    "judgements": ("demonstrate", "compare"),
    "sft": ("demonstrate",),
    "rankings": ("compare",),
    "pairs": ("compare",),
    "frozen": ("demonstrate", "compare"),
}
TRAINING = ("sft", "rankings", "pairs")
FORMATS = ("jsonl", "csv")


@dataclass(frozen=True, slots=True)
class Selection:
    """The task sets and cohorts that an export holds, by name."""

    task_sets: tuple[str, ...]
    cohorts: tuple[str, ...]


def selected(kind: ExportKind, options: ExportOptions, sets: Mapping[str, TaskKind]) -> Selection:
    """Return what an export holds; `sets` are all task sets there are. ValueError for what no export may hold.

    Training data never holds held-out labelers (paper 3.4), whatever is asked for.
    """
    check_word("kind", kind, ASKS)
    check_word("format", options.format, FORMATS)
    if kind == "frozen" and (
        options.format != "jsonl" or [len(options.task_sets or ()), len(options.cohorts or ())] != [1, 1]
    ):
        raise ValueError("a frozen file holds one task set of one cohort, as JSON lines")
    fitting = sorted(name for name, asked in sets.items() if asked in ASKS[kind])
    if options.task_sets is None:
        names = [name for name in fitting if name not in PURPOSE_OF]
        if not names:
            raise ValueError(f"there are no tasks yet whose judgements an export of kind {kind!r} could hold")
    else:
        check_collection("task_sets", options.task_sets)
        names = sorted(set(options.task_sets))
        for name in names:
            check_word("task set", name, fitting)
    cohorts = options.cohorts
    if cohorts is None:
        cohorts = ("train",) if kind in TRAINING else COHORTS
    check_collection("cohorts", cohorts)
    for cohort in cohorts:
        check_word("cohort", cohort, COHORTS)
    if kind in TRAINING:
        check_purpose(frozenset(cohorts), "train")
    return Selection(tuple(names), tuple(sorted(set(cohorts))))


def stated(options: ExportOptions, selection: Selection) -> ExportOptions:
    """Return options that name what they mean, so that sets opened later do not slip in."""
    return replace(options, task_sets=selection.task_sets, cohorts=selection.cohorts)
