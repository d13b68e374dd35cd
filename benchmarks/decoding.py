"""Decoding against transformers' `generate` at its best setting: the same models, prompts, lengths and threads.

A sampled token of a row that had already ended counts for nobody. Lengths are natural where a set of made-up stop ids,
a twentieth of the vocabulary, ends completions of a model with random weights after 20 tokens on average.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from benchmarks.measuring import REPEATS, Arm, Rates, Times, alternating, rates, ratio, result, write
from instructloop.models.lm import completion_logprobs
from instructloop.models.sampler import Samples, row_seeds, sample
from instructloop.models.text import Text

PROMPT_TOKENS, NEW_TOKENS = 32, 64
MEAN_TOKENS = 20

SHAPES = {
    "5.8M": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6}
    | {"num_attention_heads": 4, "num_key_value_heads": 4},
    "135M": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    | {"num_attention_heads": 9, "num_key_value_heads": 3},  # SmolLM2's
}


@dataclass(frozen=True, slots=True)
class Case:
    """What is decoded: prompts of one length, at most `num_rows` at once."""

    shape: str
    num_prompts: int
    num_rows: int
    is_natural: bool

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every 20th id, none where lengths are fixed."""
        return tuple(range(0, SHAPES[self.shape]["vocab_size"], MEAN_TOKENS)) if self.is_natural else ()


CASES = {
    "fixed": Case("5.8M", 64, 64, False),
    "natural": Case("5.8M", 64, 64, True),
    "queue": Case("5.8M", 256, 64, True),
    "large-fixed": Case("135M", 16, 16, False),
    "large-natural": Case("135M", 16, 16, True),
    "large-queue": Case("135M", 64, 16, True),
}
PEERS = ("dynamic float32", "static float32", "dynamic bfloat16")
OURS = ("instructloop float32", "instructloop bfloat16")


def new_model(shape: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return a Llama with random weights."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).to(dtype).eval()


def empty_text(vocab_size: int) -> Text:
    """Return a tokenizer that has the ids; no text is read or written."""
    words = {f"{i}": i for i in range(vocab_size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="0"))
    return Text(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="0", pad_token="1", unk_token="0"))


@dataclass
class Decoding:
    """One case with its models; remembers the tokens that were of use."""

    case: Case
    repeats_seen: int = 0

    def __post_init__(self):
        self.vocab_size = SHAPES[self.case.shape]["vocab_size"]
        self.text = empty_text(self.vocab_size)
        draw = random.Random(0)
        ids = range(2, self.vocab_size)
        self.prompts = [draw.choices(ids, k=PROMPT_TOKENS) for _ in range(self.case.num_prompts)]
        self.models = {name: new_model(self.case.shape, getattr(torch, name)) for name in ("float32", "bfloat16")}

    def ours(self, dtype: str) -> Samples:
        """Sample with this project's sampler."""
        return sample(
            self.models[dtype],
            self.text,
            self.prompts,
            max_new_tokens=NEW_TOKENS,
            temperature=1.0,
            seeds=row_seeds(self._turn(), map(str, range(self.case.num_prompts))),
            stop_ids=self.case.stop_ids,
            batch_rows=self.case.num_rows,
        )

    def peer(self, cache: str, dtype: str) -> int:
        """Sample with `generate`, batch after batch; return the tokens up to each row's first stop."""
        torch.manual_seed(self._turn())
        settings: dict[str, Any] = {"do_sample": True, "top_k": 0, "temperature": 1.0, "max_new_tokens": NEW_TOKENS}
        settings |= {"pad_token_id": 1, "eos_token_id": list(self.case.stop_ids) or None}
        settings |= {"cache_implementation": "static", "disable_compile": True} if cache == "static" else {}
        num_tokens = 0
        for start in range(0, len(self.prompts), self.case.num_rows):
            tokens_BP = torch.tensor(self.prompts[start : start + self.case.num_rows])
            found = self.models[dtype].generate(tokens_BP, attention_mask=torch.ones_like(tokens_BP), **settings)
            num_tokens += sum(map(self._num_useful, found[:, PROMPT_TOKENS:].tolist()))
        return num_tokens

    def arm(self, name: str) -> Arm:
        """Return what runs an arm once; its "seconds" are those of 1,000 useful tokens."""
        first, dtype = name.split()

        def run() -> float:
            started = time.perf_counter()
            num = int(self.ours(dtype).mask_BC.sum()) if first == "instructloop" else self.peer(first, dtype)
            return 1000 * (time.perf_counter() - started) / num

        return run

    def _num_useful(self, row: Sequence[int]) -> int:
        stops = set(self.case.stop_ids)
        return next((place + 1 for place, token in enumerate(row) if token in stops), len(row))

    def _turn(self) -> int:
        """Return another seed at each call: lengths are random, and no arm is to be lucky every time."""
        self.repeats_seen += 1
        return self.repeats_seen


def bounds(decoding: Decoding, samples: Samples, rate: Rates) -> dict[str, float]:
    """Return the seconds per 1,000 tokens that reading memory and that multiplying take at least, in float32.

    Memory: all weights once a step, of which there are as many as full batches need, and a row's keys and values once
    a token. Products: two operations a weight and token; the output layer for sampled tokens only.
    """
    shape = SHAPES[decoding.case.shape]
    lengths = samples.mask_BC.sum(1).tolist()
    num_tokens = sum(lengths)
    num_weights = sum(weight.numel() for weight in decoding.models["float32"].parameters())
    num_output_weights = shape["vocab_size"] * shape["hidden_size"]
    width = shape["hidden_size"] // shape["num_attention_heads"]
    cached_per_token = 2 * shape["num_hidden_layers"] * shape["num_key_value_heads"] * width
    num_steps = max(max(lengths), num_tokens / decoding.case.num_rows)
    num_read = num_steps * num_weights
    num_read += sum(cached_per_token * (PROMPT_TOKENS * length + length * (length + 1) / 2) for length in lengths)
    inner = num_weights - num_output_weights
    num_products = inner * (num_tokens + len(lengths) * (PROMPT_TOKENS - 1)) + num_output_weights * num_tokens
    return {
        "memory": 1000 * 4 * num_read / (rate.copy_gigabytes * 1e9) / num_tokens,
        "products": 1000 * 2 * num_products / (rate.gigaflops_float32 * 1e9) / num_tokens,
    }


def logprob_difference(decoding: Decoding, dtype: str, samples: Samples) -> dict[str, float]:
    """Return how far log-probabilities of sampler and trainer, both in `dtype`, lie apart on eight rows, in nats."""
    tokens_BT, attention_BT, mask_BC = (part[:8] for part in (samples.tokens_BT, samples.attention_BT, samples.mask_BC))
    with torch.inference_mode():
        trainers_BC = completion_logprobs(
            decoding.models[dtype], tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0
        )
    difference = (trainers_BC - samples.logprobs_BC[:8])[mask_BC].abs()
    return {"mean": float(difference.mean()), "max": float(difference.max())}


def measure(name: str, arms: Sequence[str], repeats: int, rate: Rates) -> dict[str, Any]:
    """Return one case's figures: tokens a second of each arm, and how many times the best peer's ours are."""
    decoding = Decoding(CASES[name])
    times = alternating({arm: decoding.arm(arm) for arm in arms}, repeats=repeats)
    samples = {arm: decoding.ours(arm.split()[1]) for arm in arms if arm.startswith("instructloop")}
    least = bounds(decoding, decoding.ours("float32"), rate)
    peers = {arm: found for arm, found in times.items() if not arm.startswith("instructloop")}
    found: dict[str, Any] = {
        "case": name,
        "shape": decoding.case.shape,
        "prompts": decoding.case.num_prompts,
        "rows": decoding.case.num_rows,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens_mean": {arm: round(float(one.mask_BC.sum(1).float().mean()), 1) for arm, one in samples.items()},
        "tokens_per_second": {arm: round(1000 / one.median) for arm, one in times.items()},
        "seconds_per_1000_tokens": {arm: one.record() for arm, one in times.items()},
        "bound_seconds_per_1000_tokens": {what: round(seconds, 5) for what, seconds in least.items()},
    }
    found["share_of_bound"] = {
        arm: {what: round(seconds / times[arm].median, 3) for what, seconds in least.items()} for arm in samples
    }
    found["logprob_difference"] = {
        arm: logprob_difference(decoding, arm.split()[1], one) for arm, one in samples.items()
    }
    if peers:
        best: Times = min(peers.values(), key=lambda one: one.median)
        found["best_peer"] = next(arm for arm, one in peers.items() if one is best)
        found["times_the_best_peer"] = {arm: ratio(best, one) for arm, one in times.items() if arm not in peers}
    return found


def main() -> None:
    """Measure the cases asked for, print them, with --write keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="all if none is given")
    parser.add_argument("--arm", action="append", choices=(*PEERS, *OURS), help="all if not given")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args()
    rate = rates()
    found = [measure(name, asked.arm or (*PEERS, *OURS), asked.repeats, rate) for name in asked.cases or CASES]
    content = result(found, beside=asked.beside, rates=asdict(rate))
    print(json.dumps(content, indent=1))
    if asked.write:
        print(write("decoding", content))


if __name__ == "__main__":
    main()
