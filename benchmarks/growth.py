"""How the cost grows: episodes, length, K and the model's size, each doubled twice: python -m benchmarks.growth.

Each of the four has a base and twice and four times as much of it, which run in turns.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from benchmarks.measuring import REPEATS, ratio, result, write
from benchmarks.ppo_iteration import weights
from benchmarks.workers import compare
from benchmarks.workloads import SHAPES, Workload, made, own_command

BASE = Workload("ppo", "small", episodes=16, prompt_tokens=32, completion_tokens=32)
RANKED = Workload("reward", "small", completions_per_prompt=4, rows=2, completion_tokens=32)
GROWING: dict[str, tuple[Workload, Workload, Workload]] = {
    "episodes": (BASE, replace(BASE, episodes=32), replace(BASE, episodes=64)),
    "length": (
        BASE,
        replace(BASE, prompt_tokens=64, completion_tokens=64),
        replace(BASE, prompt_tokens=128, completion_tokens=128),
    ),
    "completions_per_prompt": (
        RANKED,
        replace(RANKED, completions_per_prompt=8),
        replace(RANKED, completions_per_prompt=16),
    ),
    "weights": (BASE, replace(BASE, shape="double"), replace(BASE, shape="quadruple")),
}


def amount(what: str, workload: Workload) -> int:
    """Return how much of `what` a workload has; of length, tokens of an episode."""
    if what == "length":
        return workload.prompt_tokens + workload.completion_tokens
    return sum(weights(SHAPES[workload.shape])) if what == "weights" else getattr(workload, what)


def measure(what: str, setting: str, *, repeats: int = REPEATS) -> dict[str, Any]:
    """Return amounts and times of base, double and quadruple, and how many times the base's each takes."""
    workloads = {str(amount(what, one)): one for one in GROWING[what]}
    commands = {name: own_command(made(one), setting) for name, one in workloads.items()}
    times, arms = compare(commands, repeats=repeats)
    base = next(iter(times.values()))
    return {
        "what": what,
        "task": GROWING[what][0].task,
        "setting": setting,
        "amounts": [int(name) for name in times],
        "times_the_base": [ratio(one, base) for one in times.values()],
        "arms": arms,
    }


def main() -> None:
    """Measure, print, and with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=GROWING, action="append", help="all if not given")
    parser.add_argument("--setting", default="--precision float32", help="of our side, as benchmarks.ours takes it")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args()
    found = [measure(what, asked.setting, repeats=asked.repeats) for what in asked.only or GROWING]
    print(found)
    if asked.write:
        write("growth", result(found, beside=asked.beside))


if __name__ == "__main__":
    main()
