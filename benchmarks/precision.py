"""`python -m benchmarks.precision [WHAT ...]`: float32, autocast and bfloat16 with masters; attention, memory, malloc.

WHAT: `train` (seconds of an SFT step), `compile` (the same, compiled), `malloc` (the same with allocator settings),
`memory` (peak of a PPO iteration), and shapes: small, smollm2. About a minute a shape on two cores; results go to
benchmarks/results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks import measuring

Shape = Literal["small", "smollm2"]
SHAPES: dict[Shape, dict[str, int]] = {
    "small": {  # 5.8M parameters
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "smollm2": {  # 135M
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
ROWS = {"small": 32, "smollm2": 4}  # sequences of a step
THREADS = 2


def new_model(shape: Shape) -> Any:
    """Return a random Llama of a shape, dropout off."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=512)
    return LlamaForCausalLM(config).eval()


def batch_of(shape: Shape) -> Any:
    """Return rows of 33 to 128 tokens, the first 32 of each a prompt."""
    import torch

    from instructloop.core.batches import LMBatch

    generator = torch.Generator().manual_seed(1)
    rows, vocabulary = ROWS[shape], SHAPES[shape]["vocab_size"]
    tokens_BT = torch.randint(3, vocabulary, (rows, 128), generator=generator)
    length_B = torch.randint(1, 97, (rows,), generator=generator)
    mask_BC = torch.arange(96) < length_B[:, None]
    return LMBatch(tokens_BT, torch.cat([torch.ones(rows, 32, dtype=torch.bool), mask_BC], 1), mask_BC)


def sft_step(shape: Shape, kind: str) -> Callable[[], None]:
    """Return an optimizer step of SFT: `kind` is float32, autocast or bfloat16, with `+compile`."""
    import torch

    from instructloop.models.masters import round_masters
    from instructloop.train.device import to_training_device
    from instructloop.train.language import adam, batch_loss
    from instructloop.train.trim import micro_batches

    dtype, *more = kind.split("+")
    model = new_model(shape)
    to_training_device(model, "bfloat16" if dtype == "bfloat16" else "float32")
    if "compile" in more:
        model.compile(dynamic=True)
    optimizer = adam(model.parameters(), 1e-5, betas=(0.9, 0.95), weight_decay=0.0)
    pieces = micro_batches(batch_of(shape), 16 if shape == "small" else 4)

    def step() -> None:
        optimizer.zero_grad()
        for piece in pieces:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "autocast"):
                torch.as_tensor(batch_loss(model, piece).total).div(1000.0).backward()
        optimizer.step()
        round_masters(model)

    return step


def train(shapes: Sequence[Shape], kinds: Sequence[str] = ("float32", "autocast", "bfloat16")) -> dict[str, Any]:
    """Return seconds and real tokens a second of an SFT step, by shape and kind, the kinds in turns."""
    found: dict[str, Any] = {}
    for shape in shapes:
        tokens = int(batch_of(shape).attention_BT.sum())
        times = measuring.alternating({kind: sft_step(shape, kind) for kind in kinds})
        found[shape] = {
            kind: {**times[kind].record(), "tokens_per_second": round(tokens / times[kind].median)} for kind in kinds
        }
        print(shape, {kind: (round(times[kind].median, 3), round(tokens / times[kind].median)) for kind in kinds})
    return found


def compiled(shapes: Sequence[Shape]) -> dict[str, Any]:
    """Return the same with and without torch.compile; what compiling takes is in no figure."""
    return train(shapes, ("float32", "float32+compile", "bfloat16", "bfloat16+compile"))


def ppo_iteration(shape: Shape, dtype: Any, *, gradient_checkpointing: bool = False) -> Callable[[], None]:
    """Return an iteration of PPO: 4 episodes of 80 + 16 tokens in one micro-batch, four networks, one step."""
    from transformers import PreTrainedTokenizerFast

    from instructloop.core.returns import FixedKL
    from instructloop.models.masters import round_masters
    from instructloop.models.recomputing import recompute_activations
    from instructloop.models.scalar import ScalarModel
    from instructloop.models.words import word_tokenizer
    from instructloop.train.device import to_training_device
    from instructloop.train.ema import Ema
    from instructloop.train.language import adam
    from instructloop.train.ppo import Iterations, ppo_task
    from instructloop.train.rollouts import Actors
    from tests.train.small import Settings

    text = word_tokenizer(["a b"], vocabulary=200)
    assert isinstance(text.tokenizer, PreTrainedTokenizerFast)
    policy, ref = new_model(shape), new_model(shape)
    value, _ = ScalarModel.from_lm(policy, text, seed=1)
    reward, _ = ScalarModel.from_lm(policy, text, seed=2)
    for frozen in (ref, reward):
        frozen.requires_grad_(False)
    for model in (policy, value, ref, reward):
        to_training_device(model, dtype)
    if gradient_checkpointing:
        recompute_activations(policy)
        recompute_activations(value)
    actors = Actors(policy, value, ref, reward, text)
    settings = Settings(
        max_new_tokens=16,
        forward_tokens=2048,
        num_iterations=1000,
        episodes_per_iteration=4,
        num_minibatches=1,
        micro_batch_rows=4,
        dtype=dtype,
    )
    prompts = [[(7 * row + column) % 100 + 10 for column in range(80)] for row in range(4)]
    stream = Iterations(actors, prompts, None, FixedKL(0.05), settings, on_rollout=lambda *_: None)
    learners = actors.learners
    task, batches = ppo_task(stream, learners, settings), iter(stream)
    optimizer = adam(learners.parameters(), 1e-6, betas=(0.9, 0.95), weight_decay=0.0)
    ema = Ema(policy, 0.99)

    def iteration() -> None:
        batch = next(batches)
        optimizer.zero_grad()
        counts = task.counts(batch)
        for piece in task.split(batch):
            task.loss(learners, piece, counts)[0].backward()
        optimizer.step()
        round_masters(learners)
        ema.update()

    return iteration


def work(words: Sequence[str]) -> None:
    """Do `sft|ppo SHAPE KIND [recompute] REPEATS` here, after one round to warm up; print seconds and peak bytes."""
    what, shape, kind, *more = words
    assert shape in SHAPES
    *flags, repeats = more
    step = sft_step(shape, kind) if what == "sft" else ppo_iteration(shape, kind, gradient_checkpointing=bool(flags))
    seconds = list[float]()
    for _ in range(1 + int(repeats)):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(json.dumps({"seconds": seconds[1:], "peak_bytes": 1024 * int(peak)}))


def worker(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `work` in a process of its own, whose peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.precision", "work", *words]
    done = subprocess.run(
        command, cwd=measuring.ROOT, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


MALLOC = {
    "as it is": {},
    "thresholds": {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)},
    "no mmap": {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": str(2**26)},
}


def malloc(shapes: Sequence[Shape]) -> dict[str, Any]:
    """Return what allocator settings do to seconds and peak memory of an SFT step, processes in turns."""
    found: dict[str, Any] = {}
    for shape in shapes:
        for name in [*MALLOC, *reversed(MALLOC)]:
            one = worker(["sft", shape, "bfloat16", "10" if shape == "small" else "4"], MALLOC[name])
            entry = found.setdefault(shape, {}).setdefault(name, {"seconds": [], "peak_bytes": []})
            entry["seconds"] += [round(second, 4) for second in one["seconds"]]
            entry["peak_bytes"].append(one["peak_bytes"])
        print(shape, {name: (median(of["seconds"]), max(of["peak_bytes"]) >> 20) for name, of in found[shape].items()})
    return found


def memory(shapes: Sequence[Shape]) -> dict[str, Any]:
    """Return peak memory of a PPO iteration by dtype, with activations kept or computed again."""
    found: dict[str, Any] = {}
    for shape in shapes:
        for dtype in ("float32", "bfloat16"):
            for flags in ([], ["recompute"]):
                name = " ".join([dtype, *flags])
                found.setdefault(shape, {})[name] = worker(["ppo", shape, dtype, *flags, "0"], MALLOC["thresholds"])
                print(shape, name, found[shape][name])
    return found


def main(words: Sequence[str]) -> None:
    """Measure what is named and write it."""
    import torch

    torch.set_num_threads(THREADS)
    if words[:1] == ["work"]:
        work(words[1:])
        return
    shapes = [shape for shape in SHAPES if shape in words] or list(SHAPES)
    for name, measure in (("train", train), ("compile", compiled), ("malloc", malloc), ("memory", memory)):
        if name in words:
            print(measuring.write(f"precision-{name}", measuring.result(measure(shapes), threads=THREADS)))


if __name__ == "__main__":
    main(sys.argv[1:])
