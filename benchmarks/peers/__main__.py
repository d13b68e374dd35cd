"""instructloop and TRL at the same work, in turns: python -m benchmarks.peers WORKLOAD… [--tune] [--write]."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import REPEATS, ratio, result, write
from benchmarks.peers.environments import PEERS, python
from benchmarks.workers import compare
from benchmarks.workloads import OURS, WORKLOADS, Workload, made, own_command

KEPT = "--keep-memory"
MODULES = {"ppo": "trl_ppo", "reward": "trl_training", "sft": "trl_training"}
SETTINGS: dict[str, Sequence[str]] = {
    "ppo": (
        "--precision float32",
        "--precision float32 --threads 1",
        "--precision float32 --micro-batch 16",
        "--precision autocast",
        "--precision bfloat16",
    ),
    "reward": (
        "--precision float32",
        "--precision float32 --micro-batch 12",
        "--precision autocast",
        "--precision bfloat16",
    ),
    "sft": (
        "--precision float32",
        "--precision float32 --micro-batch 4",
        "--precision float32 --packing bfd --micro-batch 1",
        "--precision float32 --packing bfd --micro-batch 4",
        "--precision float32 --packing wrapped --micro-batch 4",
        "--precision autocast --packing wrapped --micro-batch 4",
        "--precision bfloat16 --packing wrapped --micro-batch 4",
    ),
}
"""What TRL is tried with; bfloat16 are weights without masters, which small steps do not move."""
BEST: dict[str, Sequence[str]] = {
    "ppo": ("--precision float32 --micro-batch 16", "--precision float32 --micro-batch 16 --keep-memory"),
    "reward": ("--precision float32 --micro-batch 12", "--precision float32 --micro-batch 12 --keep-memory"),
    "sft": (
        "--precision float32 --packing wrapped --micro-batch 4",
        "--precision float32 --packing bfd --micro-batch 1",
        "--precision float32 --packing bfd --micro-batch 1 --keep-memory",
    ),
}
"""The fastest of them, as their users run it and with the memory settings that our command line brings along.

Of SFT's packings the first lets demonstrations see each other, the second does not."""


def peer_command(task: str, folder: Path, setting: str) -> list[str | Path]:
    """Return how TRL is started on a workload's folder."""
    peer = "ppo" if task == "ppo" else "training"
    return [python(peer), "-m", f"benchmarks.peers.{MODULES[task]}", folder, *setting.split()]


def measure(
    name: str, workload: Workload, peers: Iterable[str], own: Iterable[str] = OURS, *, repeats: int = REPEATS
) -> dict[str, Any]:
    """Return the times of both sides and how many times as fast as the fastest peer the fastest of ours is.

    TRL with our memory settings is compared apart, as `times_as_fast_kept`.
    """
    folder = made(workload)
    theirs = {f"trl {setting}".strip(): peer_command(workload.task, folder, setting) for setting in peers}
    ours = {f"instructloop {setting}".strip(): own_command(folder, setting) for setting in own}
    times, arms = compare(theirs | ours, repeats=repeats)
    kept = [arm for arm in theirs if KEPT in arm]
    plain = [arm for arm in theirs if KEPT not in arm]
    their, their_kept, our = (min(side, key=lambda arm: times[arm].median, default="") for side in (plain, kept, ours))
    found: dict[str, Any] = {"workload": name, "arms": arms}
    if their and our:
        found |= {"times_as_fast": ratio(times[their], times[our]), "of": [their, our]}
    if their_kept and our:
        found |= {"times_as_fast_kept": ratio(times[their_kept], times[our]), "kept": their_kept}
    return found


def main() -> None:
    """Measure what is asked for and print it; with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="+", choices=WORKLOADS)
    parser.add_argument("--peer", action="append", help="a setting of TRL's side; its best if not given")
    parser.add_argument("--own", action="append", help="a setting of our side; all of them if not given")
    parser.add_argument("--tune", action="store_true", help="try every setting of TRL's side")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args()
    for name in asked.workloads:
        workload = WORKLOADS[name]
        peer = "ppo" if workload.task == "ppo" else "training"
        settings = SETTINGS[workload.task] if asked.tune else asked.peer or BEST[workload.task]
        found = measure(name, workload, settings, asked.own or OURS, repeats=asked.repeats)
        print(found, flush=True)
        if asked.write:
            content = result(found, beside=asked.beside, peer=list(PEERS[peer]))
            write(f"{'tuning' if asked.tune else 'peers'}-{name}", content)


if __name__ == "__main__":
    main()
