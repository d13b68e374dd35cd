"""What is measured on a large GPU, in one call: python -m benchmarks.gpu --write; without CUDA it says so and is done.

First it checks that sampling and learning agree there; then it times iterations of PPO against TRL, the share of the
arithmetic that an update reaches, the share of the memory's rate that decoding reaches, and takes peak memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import Rates, alternating, rates, ratio, result, write
from benchmarks.peers.__main__ import peer_command
from benchmarks.peers.environments import FOLDER
from benchmarks.ppo_iteration import decoding_bytes, dtype_of, shares
from benchmarks.turns import read
from benchmarks.workers import compare
from benchmarks.workloads import SHAPES, Workload, make, own_command
from instructloop.models.lm import completion_logprobs, load_lm
from instructloop.models.sampler import sample
from instructloop.train.device import Dtype, to_training_device

NOT_HERE = "skipped: torch finds no CUDA device here; run this where there is one"
PEERS = ("--precision autocast", "--precision bfloat16")
OURS = ("--precision bfloat16 --micro-batch 64",)
MAX_DIFFERENCE = (
    1e-3  # nats, float32, of a sampled token's log-probability; matrix products of other shapes round apart
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: workloads that are compared with TRL, the decoding, and workloads of which only memory is taken."""

    check: Workload
    iterations: tuple[Workload, ...]
    decoding: Workload
    memory: tuple[Workload, ...]
    repeats: int = 5


def ppo(shape: str, episodes: int, prompt_tokens: int, completion_tokens: int) -> Workload:
    """Return a workload of PPO with completions of one length."""
    return Workload("ppo", shape, episodes=episodes, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


LARGE = Plan(
    check=ppo("small", 64, 32, 64),
    iterations=(ppo("smollm2", 256, 128, 128), ppo("1.3b", 64, 128, 128)),
    decoding=ppo("1.3b", 256, 128, 128),
    memory=(ppo("1.3b", 16, 128, 128), ppo("3b", 16, 128, 128), ppo("8b", 16, 128, 128)),
)
SMALL = Plan(
    check=ppo("tiny", 4, 4, 4),
    iterations=(ppo("tiny", 4, 4, 4),),
    decoding=ppo("tiny", 8, 4, 4),
    memory=(ppo("tiny", 4, 4, 4),),
    repeats=1,
)
"""The same with a tiny model, to try the script where there is no GPU."""


def checked(workload: Workload, folder: Path) -> dict[str, Any]:
    """Return how far the sampler's log-probabilities are from those of training, float32; ValueError if too far."""
    make(workload, folder)
    model, text = load_lm(folder / "policy")
    to_training_device(model)
    _, prompts = read(folder)
    rows = prompts[: workload.episodes]
    samples = sample(
        model, text, rows, max_new_tokens=workload.completion_tokens, temperature=1.0, seeds=range(len(rows))
    )
    with torch.no_grad():
        learned_BC = completion_logprobs(
            model, samples.tokens_BT, samples.attention_BT, samples.mask_BC.shape[1], temperature=1.0
        )
    difference = float((learned_BC - samples.logprobs_BC)[samples.mask_BC].abs().max())
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(f"sampling and learning differ by {difference} nats, more than {MAX_DIFFERENCE}")
    return {"largest_difference_nats": difference}


def iteration(
    workload: Workload, folder: Path, bounds: Rates, settings: Sequence[str], *, with_peer: bool, repeats: int
) -> dict[str, Any]:
    """Return times and shares of the bounds of our settings, and how many times as fast as TRL the fastest is."""
    make(workload, folder)
    commands = {setting: own_command(folder, setting) for setting in settings}
    peers = {f"trl {setting}": peer_command("ppo", folder, setting) for setting in PEERS if with_peer}
    times, arms = compare(commands | peers, repeats=repeats)
    for setting in settings:
        arms[setting] |= shares(workload, arms[setting], dtype_of(setting), bounds)
    best = min(settings, key=lambda setting: times[setting].median)
    if not with_peer:
        return {"workload": asdict(workload), "arms": arms}
    peer = min(peers, key=lambda arm: times[arm].median)
    compared = {"times_as_fast": ratio(times[peer], times[best]), "of": [peer, best]}
    return {"workload": asdict(workload), "arms": arms, **compared}


def decoding(workload: Workload, folder: Path, bounds: Rates, dtype: Dtype, *, repeats: int) -> dict[str, Any]:
    """Return tokens a second of sampling alone and the share of the memory's rate, prompts and scoring left out."""
    make(workload, folder)
    model, text = load_lm(folder / "policy")
    to_training_device(model.requires_grad_(False), dtype)
    _, prompts = read(folder)
    rows = prompts[: workload.episodes]

    def once(new_tokens: int) -> float:
        started = time.perf_counter()
        sample(
            model,
            text,
            rows,
            max_new_tokens=new_tokens,
            temperature=1.0,
            seeds=range(len(rows)),
            batch_rows=len(rows),
        )
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started

    # What the prompts take is measured by sampling one token, and taken off.
    times = alternating({"all": lambda: once(workload.completion_tokens), "prompts": lambda: once(1)}, repeats=repeats)
    steps = workload.completion_tokens - 1
    seconds = times["all"].median - times["prompts"].median
    read_bytes = decoding_bytes(
        SHAPES[workload.shape],
        steps=steps,
        cached_tokens=len(rows) * steps * (workload.prompt_tokens + steps / 2),
        bytes_per_number=model.dtype.itemsize,
    )
    return {
        "workload": asdict(workload),
        "rows": len(rows),
        "dtype": dtype,
        "times": {name: one.record() for name, one in times.items()},
        "tokens_per_second": round(len(rows) * steps / max(seconds, 1e-9)),
        "bandwidth_share": round(read_bytes / (1e9 * bounds.copy_gigabytes) / max(seconds, 1e-9), 3),
    }


def memory(workload: Workload, folder: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Return the peak memory of one iteration at each setting; what does not fit says so."""
    make(workload, folder)
    found: dict[str, Any] = {}
    for setting in settings:
        try:
            _, arms = compare({setting: own_command(folder, setting)}, repeats=1, warm_ups=0)
            found[setting] = {
                name: arms[setting][name]
                for name in ("peak_mebibytes", "device_peak_mebibytes")
                if name in arms[setting]
            }
        except ValueError as error:
            if "out of memory" not in str(error):
                raise
            found[setting] = "out of memory"
    return {"workload": asdict(workload), "peak": found}


def measure(plan: Plan, settings: Sequence[str], *, with_peer: bool) -> dict[str, Any]:
    """Do everything in turn, printing each part when it is done."""
    bounds = (
        rates("cuda", side=8192, num_bytes=2**32) if torch.cuda.is_available() else rates(side=256, num_bytes=2**20)
    )
    found: dict[str, Any] = {"rates": asdict(bounds)}

    def done(part: str, what: Any) -> None:
        found.setdefault(part, []).append(what)
        print(json.dumps({part: what}), flush=True)

    with tempfile.TemporaryDirectory(prefix="gpu-") as place:
        done("check", checked(plan.check, Path(place) / "check"))
        for number, one in enumerate(plan.iterations):
            folder = Path(place) / f"iteration-{number}"
            done("iteration", iteration(one, folder, bounds, settings, with_peer=with_peer, repeats=plan.repeats))
        done("decoding", decoding(plan.decoding, Path(place) / "decoding", bounds, "bfloat16", repeats=plan.repeats))
        for number, one in enumerate(plan.memory):
            done("memory", memory(one, Path(place) / f"memory-{number}", settings))
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure what a GPU does; with --tiny only try the script."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model, also without a GPU: no figure of any use")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args(words)
    if not asked.tiny and not torch.cuda.is_available():
        print(NOT_HERE)
        return
    plan = SMALL if asked.tiny else LARGE
    with_peer = (FOLDER / "ppo" / ".made").is_file() and not asked.tiny
    found = measure(plan, OURS, with_peer=with_peer)
    if asked.write:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        write("gpu", result(found, device=name))


if __name__ == "__main__":
    main()
