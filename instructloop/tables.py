"""What the verbs print: where a round stands, the lineage of a run, the figures of a report; no work is done here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from instructloop.runs import Lineage, Run

if TYPE_CHECKING:
    from instructloop.stages.round import StepState

SIGNS = {
    "done": ("✓", "green"),
    "running": ("‖", "yellow"),
    "waiting": ("…", "magenta"),
    "ready": ("▸", "cyan"),
    "blocked": ("·", "dim"),
}
COLUMNS = {  # heading of the summary -> field of report.json, by policy
    "win vs. SFT, held-out labelers": "win_rate_vs_sft",
    "win vs. SFT, judge": "gold_win_rate_vs_sft",
    "rating, 1 to 7": "likert",
}


def status_table(states: Sequence[StepState], runs: Path) -> Table:
    """Return one line a step: its state, its run, and what it waits for."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "step", "state", "run", ""):
        table.add_column(heading, no_wrap=heading != "", overflow="fold")
    for state in states:
        sign, style = SIGNS[state.status]
        table.add_row(
            Text(sign, style),
            Text(state.name),
            Text(state.status, style),
            Text(state.run_id or "", "dim"),
            Text(_detail(state, runs)),
        )
    return table


def next_line(states: Sequence[StepState], command: str) -> str:
    """Return what to do next, in one line; `command` is what would go on, as one types it."""
    by = {status: [state for state in states if state.status == status] for status in SIGNS}
    waiting = ", ".join(f"{state.name} ({state.detail})" for state in by["waiting"])
    if workable := [state.name for state in (*by["running"], *by["ready"])]:
        return f"next: {command}   does {', '.join(workable)}" + (f"; people: {waiting}" if waiting else "")
    if waiting:
        return f"next: people: {waiting}; then {command}"
    return "done: every step of this round" if not by["blocked"] else "nothing can go on"


def lineage_tree(tree: Lineage, *, full: bool = False) -> Tree:
    """Return a run over its ancestors, each with the hashes of what it offers and of what came from outside.

    A run that several others came from is unfolded once; `full` shows all 64 digits of every hash.
    """
    return _branch(tree, Tree(_run_text(tree, full)), set(), full)


def ancestors(tree: Lineage) -> dict[str, Run]:
    """Return every run of a lineage by id, its own among them."""
    found = {tree.run.id: tree.run}
    for parent in tree.parents:
        found.update(ancestors(parent))
    return found


def summary_tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the figures that one looks for first: a table of the policies, a table of what was learnt from."""
    table = Table(title="Policies, with 95 % intervals", title_justify="left")
    shown = {heading: report[field] for heading, field in COLUMNS.items() if report.get(field)}
    kl = report.get("kl") or {}
    table.add_column("policy")
    for heading in [*shown, *(["KL to the init, nats"] if kl else [])]:
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name for figures in shown.values() for name in figures):
        cells = [interval(figures.get(name)) for figures in shown.values()]
        cells += [f"{kl[name]['final']:.2f}" if name in kl else ""] if kl else []
        table.add_row((report.get("policies") or {}).get(name, name), *cells)
    if shown:
        yield table
    learnt = Table(title="Labels and reward model", title_justify="left", show_header=False)
    for label, figure in _learnt(report):
        learnt.add_row(label, interval(figure))
    if learnt.row_count:
        yield learnt


def interval(figure: Mapping[str, Any] | None) -> str:
    """Return `value [low, high]`, empty for what was not measured."""
    if figure is None:
        return ""
    ends = ["?" if figure[end] is None else f"{figure[end]:.3f}" for end in ("low", "high")]
    return f"{figure['value']:.3f} [{ends[0]}, {ends[1]}]"


def _detail(state: StepState, runs: Path) -> str:
    if state.status != "running" or state.run_id is None:
        return state.detail
    pid = Run.load(runs / state.run_id).owner_pid
    if pid in (None, os.getpid()):  # whoever asks is not at work
        return "stopped half-way: the next run goes on from its checkpoint"
    return f"at work now, process {pid}"


def _learnt(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for cohort, figure in (report.get("agreement") or {}).items():
        yield f"agreement between labelers, {cohort}", figure
    for name, figure in (report.get("reward_model") or {}).items():
        if isinstance(figure, Mapping) and "value" in figure:
            yield f"reward model, {name.replace('_', ' ')}", figure


def _branch(tree: Lineage, node: Tree, seen: set[str], full: bool) -> Tree:
    if tree.run.id in seen:
        if tree.parents:
            node.add(Text("… as above", "dim"))
        return node
    seen.add(tree.run.id)
    for name, sha in sorted(tree.run.inputs.items()):
        node.add(Text.assemble(("from outside: ", "dim"), name, (f"  sha256 {sha if full else sha[:12]}", "dim")))
    for parent in tree.parents:
        _branch(parent, node.add(_run_text(parent, full)), seen, full)
    return node


def _run_text(tree: Lineage, full: bool) -> Text:
    run = tree.run
    text = Text.assemble((f"{tree.role}: " if tree.role else "", "cyan"), (run.id, "bold"), (f"  {run.stage}", "dim"))
    for name, sha in sorted(run.outputs.items()):
        text.append(f"\n  {name}  ").append(f"sha256 {sha if full else sha[:12]}", "dim")
    return text if run.is_done else text.append("  not finished", "yellow")
