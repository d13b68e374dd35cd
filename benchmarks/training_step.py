"""Forward and backward of the three losses, padded against packed, in real tokens per second.

    python -m benchmarks.training_step --size small --dtype float32 --write

Padded is what transformers does with a batch under its mask; packed is what training does (docs/performance.md).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

from benchmarks.measuring import Arm, alternating, ratio, result, write
from instructloop.core.batches import LMBatch, RankedBatch, pair_rows
from instructloop.core.losses import lm_loss, pairwise_ranking_loss
from instructloop.models import hidden
from instructloop.models.lm import completion_logprobs
from instructloop.models.scalar import ScalarModel

SIZES = {
    "small": {  # 5.8M
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "135m": {  # SmolLM2-135M
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
ROWS = {"small": 32, "135m": 8}
SHORTEST, LONGEST = 33, 128
NUM_COMPLETIONS = 9
RANKED = {"small": ((64, 32), (32, 64)), "135m": ((64, 32),)}  # tokens of prompt and completion


def configuration(size: str) -> LlamaConfig:
    """Return the configuration of a Llama of this size."""
    shared = {"max_position_embeddings": 2048, "tie_word_embeddings": True, "pad_token_id": 0, "num_labels": 1}
    return LlamaConfig(**SIZES[size], **shared)


def demonstrations(size: str) -> LMBatch:
    """Return a batch of prompts of 32 tokens with completions that make rows of 33 to 128 tokens, evenly spread."""
    num_rows = ROWS[size]
    lengths = [SHORTEST + (LONGEST - SHORTEST) * row // (num_rows - 1) for row in range(num_rows)]
    random.Random(0).shuffle(lengths)
    tokens_BT = torch.randint(1, SIZES[size]["vocab_size"], (num_rows, LONGEST))
    attention_BT = torch.arange(LONGEST) < torch.tensor(lengths)[:, None]
    return LMBatch(tokens_BT, attention_BT, attention_BT[:, SHORTEST - 1 :])


def ranking(size: str, prompt: int, completion: int) -> RankedBatch:
    """Return the completions of one prompt, all of one length, in a strict order."""
    rows_BT = torch.randint(1, SIZES[size]["vocab_size"], (NUM_COMPLETIONS, prompt + completion))
    rows_BT[:, :prompt] = rows_BT[0, :prompt]
    order = [[[row] for row in range(NUM_COMPLETIONS)]]
    prompt_B = torch.zeros(NUM_COMPLETIONS, dtype=torch.long)
    return RankedBatch(rows_BT, torch.ones_like(rows_BT, dtype=torch.bool), prompt_B, *pair_rows(order))


def language_arm(model: PreTrainedModel, batch: LMBatch) -> Callable[[], None]:
    """Return what makes the gradient of the loss on completions."""

    def run() -> None:
        model.zero_grad()
        width = batch.mask_BC.shape[1]
        logprobs_BC = completion_logprobs(model, batch.tokens_BT, batch.attention_BT, width, temperature=1.0)
        lm_loss(logprobs_BC, batch.mask_BC).mean().backward()

    return run


def ranking_arm(model: ScalarModel, batch: RankedBatch, *, shares: bool) -> Callable[[], None]:
    """Return what makes the gradient of the ranking loss; `shares`: the prompt is computed once for all completions."""

    def run() -> None:
        model.zero_grad()
        score_B = model.score(batch.tokens_BT, batch.attention_BT, batch.prompt_B if shares else None)
        pairwise_ranking_loss(score_B, batch.winner_N, batch.loser_N, batch.weight_N).mean().backward()

    return run


def padded(run: Callable[[], None]) -> Arm:
    """Return the same work on padded rows."""

    def arm() -> None:
        with patch.object(hidden, "FAMILIES", frozenset()):
            run()

    return arm


def measured(size: str, dtype: torch.dtype, repeats: int) -> list[dict[str, object]]:
    """Return a row of figures for each loss."""
    torch.manual_seed(0)
    config = configuration(size)
    batch = demonstrations(size)
    learn = language_arm(LlamaForCausalLM(config).to(dtype), batch)
    found = [compared("demonstrations", batch.attention_BT, {"padded": padded(learn), "packed": learn}, repeats)]
    reward = ScalarModel(LlamaForSequenceClassification(config).to(dtype))
    for prompt, completion in RANKED[size]:
        ranked = ranking(size, prompt, completion)
        alone, shared = (ranking_arm(reward, ranked, shares=shares) for shares in (False, True))
        arms = {"padded": padded(alone), "packed": alone, "shared": shared}
        name = f"{NUM_COMPLETIONS} ranked, {prompt} + {completion}"
        found.append(compared(name, ranked.attention_BT, arms, repeats))
    return found


def compared(name: str, attention_BT: torch.Tensor, arms: dict[str, Arm], repeats: int) -> dict[str, object]:
    """Return real tokens per second of each arm and how many times as fast as padded it is."""
    num_tokens = int(attention_BT.sum())
    times = alternating(arms, repeats=repeats)
    speed = {arm: round(num_tokens / of.median, 1) for arm, of in times.items()}
    ratios = {arm: ratio(times["padded"], of) for arm, of in times.items() if arm != "padded"}
    print(name, speed, ratios, flush=True)
    records = {arm: of.record() for arm, of in times.items()}
    return {"loss": name, "real_tokens": num_tokens, "tokens_per_second": speed, "ratio": ratios, "times": records}


def main(words: Sequence[str]) -> int:
    """Measure one size in one dtype and print a line per loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
    asked = parser.parse_args(words)
    found = measured(asked.size, getattr(torch, asked.dtype), asked.repeats)
    if asked.write:
        name = f"training_step-{asked.size}-{asked.dtype}"
        print(write(name, result(found, size=asked.size, dtype=asked.dtype, threads=torch.get_num_threads())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
