"""What the verbs print: where a round stands and the lineage of a run; the table of a report is in evals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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


def next_line(states: Sequence[StepState], command: str, app: str) -> str:
    """Return what to do next, in one line; `command` is what would go on, `app` where people work, as one types it."""
    by = {status: [state for state in states if state.status == status] for status in SIGNS}
    waiting = ", ".join(f"{state.name} ({state.detail})" for state in by["waiting"])
    if workable := [state.name for state in (*by["running"], *by["ready"])]:
        return f"next: {command}   does {', '.join(workable)}" + (f"; people in {app}: {waiting}" if waiting else "")
    if waiting:
        return f"next: people in {app}: {waiting}; then {command}"
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


def _detail(state: StepState, runs: Path) -> str:
    if state.status != "running" or state.run_id is None:
        return state.detail
    pid = Run.load(runs / state.run_id).owner_pid
    if pid in (None, os.getpid()):  # whoever asks is not at work
        return "stopped half-way: the next run goes on from its checkpoint"
    return f"at work now, process {pid}"


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
