"""The work that both sides do: models in a folder, prompts, demonstrations and rankings as ids, and the settings."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.measuring import ROOT
from instructloop.models.lm import save_lm
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text

MADE = ROOT / ".peers" / "work"
PAD, EOS, FIRST_WORD = 0, 1, 2
CONSTANT = 0.1  # of every word's embedding, at one coordinate

PROMPT_WORDS = (25, 88, 112, 139, 163, 188, 216, 248, 300, 379, 480, 593, 1260)
COMPLETION_WORDS = (1, 1, 2, 3, 4, 6, 8, 10, 13, 19, 23, 28, 69)
SHARES = (0.0, 0.05, 0.14, 0.25, 0.375, 0.5, 0.625, 0.75, 0.86, 0.95, 0.98, 0.99, 1.0)
"""Quantiles of the words of FairytaleQA's questions with their passages, and of its answers (8,548 of them)."""
TOKENS_PER_WORD = 1.3
OURS = (
    "--precision float32",
    "--precision float32 --compile",
    "--precision bfloat16",
    "--precision bfloat16 --micro-batch 64",
)
"""The settings of our side; in bfloat16 what is trained has float32 masters."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's size."""

    vocabulary: int
    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int


SHAPES = {
    "tiny": Shape(64, 32, 64, 2, 4, 2),
    "small": Shape(4096, 256, 688, 6, 4, 4),  # 5.8 million parameters
    "double": Shape(4096, 384, 1024, 6, 6, 6),  # 2.1 times the matrices
    "quadruple": Shape(4096, 512, 1376, 7, 8, 8),  # 4.2 times
    "smollm2": Shape(49152, 576, 1536, 30, 9, 3),  # 134.5 million: SmolLM2-135M
    "1.3b": Shape(50304, 2048, 5504, 24, 16, 16),  # GPT-3 1.3B's width and depth
    "3b": Shape(128256, 3072, 8192, 28, 24, 8),
    "8b": Shape(128256, 4096, 14336, 32, 32, 8),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What one run of an arm does; `mean_length` None: no completion ends before the budget."""

    task: str  # "ppo", "reward" or "sft"
    shape: str
    episodes: int = 0  # PPO
    prompt_tokens: int = 32
    completion_tokens: int = 64
    mean_length: float | None = None  # of completions, before the budget cuts them
    minibatches: int = 1
    completions_per_prompt: int = 0  # K of the reward model
    rows: int = 0  # prompts of a step of the reward model, demonstrations of a run of SFT
    max_length: int = 1024  # of a row of SFT
    rows_per_step: int = 32  # of SFT, unpacked
    seed: int = 1


WORKLOADS = {
    "ppo-fixed": Workload("ppo", "small", episodes=64),
    "ppo-fixed-8": Workload("ppo", "small", episodes=64, minibatches=8),
    "ppo-natural": Workload("ppo", "small", episodes=64, mean_length=20.0),
    "ppo-smollm2": Workload("ppo", "smollm2", episodes=16),
    **{
        f"reward-{k}": Workload("reward", "small", completions_per_prompt=k, rows=2, completion_tokens=32)
        for k in range(4, 10)
    },
    "sft": Workload("sft", "small", rows=32),
    "tiny-ppo": Workload("ppo", "tiny", episodes=8, prompt_tokens=6, completion_tokens=8, mean_length=4.0),
    "tiny-reward": Workload("reward", "tiny", completions_per_prompt=4, rows=2, prompt_tokens=6, completion_tokens=4),
    "tiny-sft": Workload("sft", "tiny", rows=8, max_length=64, rows_per_step=4),
}


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of made-up words that knows only its ids: 0 is pad, 1 is EOS."""
    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{number}": number for number in range(FIRST_WORD, vocabulary)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w2"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="w2")


def make_model(workload: Workload) -> PreTrainedModel:
    """Return a Llama with random weights in which EOS comes with about 1 / mean_length at each place, pad never.

    One coordinate of the residual stream is kept the same for all words, so that the tied embeddings of EOS and pad can
    give them a logit apart from all others, without a bias.
    """
    shape = SHAPES[workload.shape]
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=2048,
        initializer_range=0.02,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(workload.seed)
        model = LlamaForCausalLM(config).eval()
    model.get_input_embeddings().padding_idx = None
    with torch.no_grad():
        weight_VD = model.get_input_embeddings().weight
        weight_VD[:, 0] = CONSTANT
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        weight_VD[:FIRST_WORD] = 0.0
        generator = torch.Generator().manual_seed(workload.seed)
        words = torch.randint(FIRST_WORD, shape.vocabulary, (8, 64), generator=generator)
        hidden = model.model(words).last_hidden_state.flatten(0, 1)
        others = (hidden @ weight_VD[FIRST_WORD:].T).logsumexp(-1)
        mean_length = workload.mean_length or 1e9
        weight_VD[EOS, 0] = _scale(hidden[:, 0], others, 1 / mean_length)
        weight_VD[PAD, 0] = _scale(hidden[:, 0], others, 1e-9)
    return model


def _scale(constant_N: torch.Tensor, others_N: torch.Tensor, chance: float) -> float:
    """Return what times the constant coordinate is a logit that has `chance` on average against all others'."""
    low, high = -1e3, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        is_more = float((middle * constant_N - others_N).sigmoid().mean()) > chance
        low, high = (low, middle) if is_more else (middle, high)
    return low


def made(workload: Workload) -> Path:
    """Return a folder in which `make` has written the workload as it is now."""
    source = Path(__file__).read_text() + str((workload, SHAPES[workload.shape]))
    folder = MADE / f"{workload.task}-{workload.shape}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if not (folder / "workload.json").is_file():
        make(workload, folder)
    return folder


def own_command(folder: Path, setting: str) -> list[str | Path]:
    """Return how instructloop is started on a workload's folder."""
    return [sys.executable, "-m", "benchmarks.ours", folder, *setting.split()]


def make(workload: Workload, folder: Path) -> None:
    """Write `policy/`, `reward/`, `rows.json` and `workload.json` for both sides to read."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[workload.shape]
    model, text = make_model(workload), Text(make_tokenizer(shape.vocabulary))
    scalar, scalar_text = ScalarModel.from_lm(model, text, seed=workload.seed)
    save_lm(model, text, folder / "policy")
    scalar.save(folder / "reward", scalar_text)
    draws = np.random.Generator(np.random.Philox(key=workload.seed))
    rows = {"ppo": _prompts, "reward": _rankings, "sft": _demonstrations}[workload.task](workload, draws)
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))


def _ids(workload: Workload, draws: np.random.Generator, length: int) -> list[int]:
    return draws.integers(FIRST_WORD, SHAPES[workload.shape].vocabulary, length).tolist()


def _prompts(workload: Workload, draws: np.random.Generator) -> list[list[int]]:
    return [_ids(workload, draws, workload.prompt_tokens) for _ in range(4 * workload.episodes)]


def _rankings(workload: Workload, draws: np.random.Generator) -> list[dict[str, Any]]:
    """Return prompts with K completions each, best first, of lengths from half the completion's tokens to all."""
    least = workload.completion_tokens // 2
    return [
        {
            "prompt": _ids(workload, draws, workload.prompt_tokens),
            "completions": [
                [*_ids(workload, draws, int(draws.integers(least, workload.completion_tokens))), EOS]
                for _ in range(workload.completions_per_prompt)
            ],
        }
        for _ in range(8 * workload.rows)
    ]


def _demonstrations(workload: Workload, draws: np.random.Generator) -> list[dict[str, list[int]]]:
    found = []
    for _ in range(workload.rows):
        words = [float(np.interp(draws.random(), SHARES, of)) for of in (PROMPT_WORDS, COMPLETION_WORDS)]
        completion = max(1, round(words[1] * TOKENS_PER_WORD))
        prompt = min(round(words[0] * TOKENS_PER_WORD), workload.max_length - completion - 1)
        found.append({"prompt": _ids(workload, draws, prompt), "completion": [*_ids(workload, draws, completion), EOS]})
    return found
