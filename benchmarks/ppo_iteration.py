"""One PPO iteration by phases, against what the machine can do: python -m benchmarks.ppo_iteration.

Operations are counted for real tokens only: 2 for each weight of a matrix in a forward pass, 4 more in a backward pass;
a vocabulary's head only where completions are predicted, attention not at all. Sampling and scoring are 2 and 6 N, the
update of policy and value function 12 N: 20 N for each token of an episode.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measuring import REPEATS, Rates, rates, result, write
from benchmarks.workers import compare
from benchmarks.workloads import OURS, SHAPES, WORKLOADS, Shape, Workload, made, own_command

PHASES = ("rollout", "score", "update")
QUICK = ("ppo-fixed", "ppo-natural")


def weights(shape: Shape) -> tuple[int, int]:
    """Return the numbers in the matrices of all layers, and in the vocabulary's head."""
    head_width = shape.width // shape.heads
    attention = 2 * shape.width * head_width * (shape.heads + shape.key_heads)
    return shape.layers * (attention + 3 * shape.width * shape.inner), shape.vocabulary * shape.width


def operations(shape: Shape, *, tokens: float, completion_tokens: float) -> dict[str, float]:
    """Return the operations of each phase for episodes of `tokens` in all, completions and prompts together."""
    body, head = weights(shape)
    return {
        "rollout": 2 * (body * tokens + head * completion_tokens),
        "score": 2 * (3 * body * tokens + head * completion_tokens),  # reference, value, reward
        "update": 6 * (2 * body * tokens + head * completion_tokens),  # policy, value
    }


def decoding_bytes(shape: Shape, *, steps: float, cached_tokens: float, bytes_per_number: int) -> float:
    """Return what decoding must read at least: all weights at each step, and each row's keys and values so far.

    `cached_tokens` is the sum over steps and rows of the tokens before.
    """
    per_token = 2 * shape.layers * shape.key_heads * (shape.width // shape.heads)
    return bytes_per_number * (steps * sum(weights(shape)) + cached_tokens * per_token)


def shares(workload: Workload, arm: dict[str, Any], dtype: str, bounds: Rates) -> dict[str, Any]:
    """Return seconds of each phase, real tokens a second, and the shares of the bounds that were reached."""
    shape = SHAPES[workload.shape]
    completion = arm["completion_tokens"]
    tokens = completion + workload.episodes * workload.prompt_tokens
    seconds = {"rollout": arm["rollout_seconds"], "score": arm["score_seconds"]}
    seconds["update"] = arm["median"] - sum(seconds.values())
    counted = operations(shape, tokens=tokens, completion_tokens=completion)
    per_second = 1e9 * bounds.gigaflops(dtype)
    read = decoding_bytes(
        shape,
        steps=arm["longest_tokens"],
        cached_tokens=arm["cached_tokens"],
        bytes_per_number=4 if dtype == "float32" else 2,
    )
    return {
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "tokens_per_second": round(tokens / arm["median"]),
        "arithmetic_share": {name: round(counted[name] / per_second / seconds[name], 3) for name in PHASES}
        | {"all": round(sum(counted.values()) / per_second / arm["median"], 3)},
        "decoding_bandwidth_share": round(read / (1e9 * bounds.copy_gigabytes) / seconds["rollout"], 3),
    }


def dtype_of(setting: str) -> str:
    """Return the dtype that a setting of our side computes in."""
    return "bfloat16" if "bfloat16" in setting else "float32"


def measure(name: str, bounds: Rates, own: Iterable[str] = OURS, *, repeats: int = REPEATS) -> dict[str, Any]:
    """Return a workload's arms, one for each setting of ours, with times, phases, shares and peak memory."""
    workload = WORKLOADS[name]
    folder: Path = made(workload)
    commands = {setting: own_command(folder, setting) for setting in own}
    _, arms = compare(commands, repeats=repeats)
    return {
        "workload": name,
        **asdict(workload),
        "arms": {setting: arm | shares(workload, arm, dtype_of(setting), bounds) for setting, arm in arms.items()},
    }


def main() -> None:
    """Measure, print, and with --write keep it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD")
    parser.add_argument("--own", action="append", help="a setting of our side; all of them if not given")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args()
    bounds = rates()
    found = [measure(name, bounds, asked.own or OURS, repeats=asked.repeats) for name in asked.workloads or QUICK]
    print(found)
    if asked.write:
        write("ppo-iteration", result(found, beside=asked.beside, rates=asdict(bounds)))


if __name__ == "__main__":
    main()
