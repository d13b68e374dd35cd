"""Rollouts: completions sampled for many prompts, one random stream per row; and Policy, which does so with text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from instructloop.models.adapters import merged
from instructloop.models.decode import Decoded, Listeners, decode
from instructloop.models.drawing import Sampling
from instructloop.models.lm import completion_logprobs, context_length, load_lm
from instructloop.models.text import Text, length_sorted_batches


@dataclass(frozen=True, slots=True)
class Samples:
    """Sampled completions in the order of their prompts: prompts padded left, completions right, C the longest."""

    tokens_BT: Int[Tensor, "B T"]
    attention_BT: Bool[Tensor, "B T"]
    mask_BC: Bool[Tensor, "B C"]  # the sampled tokens, the closing stop id among them
    logprobs_BC: Float[Tensor, "B C"]  # in nats, at the sampling temperature, before top-p and top-k; 0 off the mask
    finished_B: Bool[Tensor, " B"]  # ended by a stop id, not by the budget

    def completions(self) -> list[list[int]]:
        """Return the sampled ids of each row."""
        tokens_BC = self.tokens_BT[:, -self.mask_BC.shape[1] :].tolist()
        lengths_B = self.mask_BC.sum(1).tolist()
        return [row[:length] for row, length in zip(tokens_BC, lengths_B, strict=True)]


class Sampler(Protocol):
    """What draws a rollout: `sample`, or another engine that is called the same."""

    def __call__(
        self,
        model: PreTrainedModel,
        text: Text,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> Samples:
        """Return one completion per prompt."""
        ...


def row_seeds(seed: int, names: Iterable[str]) -> list[int]:
    """Return one seed per name, from `seed` and the name alone: a prompt's stream does not depend on its place."""
    return [int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") for name in names]


def sample(
    model: PreTrainedModel,
    text: Text,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seeds: Sequence[int],
    top_p: float = 1.0,
    top_k: int = 0,
    stop_ids: Sequence[int] | None = None,
    batch_rows: int | None = None,
    on_rows: Callable[[int], None] | None = None,
    on_token: Callable[[int, int], None] | None = None,
) -> Samples:
    """Return one completion per prompt (ids), row b drawn with the random stream of `seeds[b]`.

    Step t of a row takes the token where the cumulative distribution passes the t-th uniform number of the row's
    stream: a completion depends on its prompt and seed, not on its batch, up to rounding of the logits. `stop_ids`
    replace the text's own. At most `batch_rows` rows are decoded at once; `on_rows` hears how many more are done,
    `on_token` (prompt's index, token) of each token when it is drawn.
    """
    stops = text.stop_ids if stop_ids is None else tuple(stop_ids)
    sampling = Sampling(max_new_tokens, temperature, top_p, top_k, stops)
    check_rows(prompts, seeds, max_new_tokens, limit=context_length(model.config))
    was_training = model.training
    model.eval()
    try:
        with merged(model):  # no token pays for an adapter
            done = decode(
                model,
                prompts,
                lambda row: _uniforms(seeds[row], sampling),
                sampling,
                num_slots=batch_rows,
                listeners=Listeners(on_rows, on_token),
            )
    finally:
        model.train(was_training)
    return samples_of(text, prompts, done, model.device)


def check_rows(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], max_new_tokens: int, *, limit: int | None
) -> None:
    """Refuse prompts (ids) of which one is empty, has no seed, or leaves no room for its completion in the context."""
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts")
    if not prompts or not all(prompts):
        raise ValueError("there must be prompts, each of at least one token")
    longest = max(len(prompt) for prompt in prompts) + max_new_tokens
    if limit is not None and longest > limit:
        raise ValueError(f"prompt and max_new_tokens make {longest} tokens; the model's context is {limit}")


def samples_of(text: Text, prompts: Sequence[Sequence[int]], done: Sequence[Decoded], device: torch.device) -> Samples:
    """Return what was decoded, row by row, as samples on a device."""
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(prompts, [row.tokens for row in done])
    logprobs_BC = torch.zeros(mask_BC.shape)
    logprobs_BC[mask_BC] = torch.tensor([value for row in done for value in row.logprobs])
    finished_B = torch.tensor([row.is_finished for row in done])
    return Samples(*(t.to(device) for t in (tokens_BT, attention_BT, mask_BC, logprobs_BC, finished_B)))


def _uniforms(seed: int, sampling: Sampling) -> list[float]:
    """Return uniform numbers in [0, 1) from `seed`, as float32; a longer budget begins with the same numbers."""
    if sampling.temperature == 0:
        return [0.0] * sampling.max_new_tokens
    return np.random.Generator(np.random.Philox(key=seed)).random(sampling.max_new_tokens, dtype=np.float32).tolist()


@dataclass(frozen=True, slots=True)
class Generation:
    """One completion as text; `finished` False means that the token budget ran out."""

    text: str
    finished: bool
    num_tokens: int


@dataclass(frozen=True)
class Policy:
    """A model under a name that answers prompts; `prefix` (few-shot examples) stands before each of them.

    `raw` True: prompts are continued as bare text, without chat template.
    """

    name: str
    model: PreTrainedModel
    text: Text
    prefix: str = ""
    raw: bool = False

    @staticmethod
    def load(path: str | Path, *, name: str, prefix: str = "", raw: bool = False) -> Policy:
        """Load a policy from a Hugging Face folder."""
        model, text = load_lm(path)
        return Policy(name, model, text, prefix, raw)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        stop_newline: bool = False,
        on_rows: Callable[[int], None] | None = None,
    ) -> list[Generation]:
        """Return one completion per prompt. The n-th copy of a prompt has a random stream of its own, from `seed`.

        `stop_newline` cuts each text at its first newline (paper D); a prefix does so too, since what would follow is
        another example. Prompts over the context lose text at their start.
        """
        stop_newline = stop_newline or bool(self.prefix)
        limit = context_length(self.model.config)
        room = None if limit is None else limit - max_new_tokens
        if not prompts:
            return []
        samples = sample(
            self.model,
            self.text,
            [self._prompt_ids(prompt, room) for prompt in prompts],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seeds=row_seeds(seed, _numbered(prompts)),
            stop_ids=(*self.text.stop_ids, *self.text.newline_ids) if stop_newline else None,
            on_rows=on_rows,
        )
        rows = zip(samples.completions(), samples.finished_B.tolist(), strict=True)
        found = [Generation(self.text.decode(ids), finished, len(ids)) for ids, finished in rows]
        return [replace(one, text=one.text.split("\n")[0]) for one in found] if stop_newline else found

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, raw: bool = True, batch_tokens: int = 8192
    ) -> list[tuple[float, int]]:
        """Return, per (context, continuation), the continuation's total log-probability in nats and its tokens.

        `raw`: bare text without template, prefix or EOS, an empty context being the end of another document. Else a
        prompt and its completion, closed by EOS. An empty continuation has (0, 0).
        """
        rows = [self._pair_ids(*pair, raw=raw) for pair in pairs]
        return row_logprobs(self.model, self.text, rows, batch_tokens=batch_tokens)

    def _prompt_ids(self, prompt: str, room: int | None) -> list[int]:
        if self.raw:
            ids = self.text.context_ids(self.prefix + prompt)
            return ids if room is None else ids[-room:]
        return self.text.prompt_ids(self.prefix + prompt, max_tokens=room)

    def _pair_ids(self, context: str, continuation: str, *, raw: bool) -> tuple[list[int], list[int]]:
        """Return both as ids; what the context has too much for the model is cut off at its start."""
        limit = context_length(self.model.config)
        continuation_ids = self.text.completion_ids(continuation, close=not raw)
        room = None if limit is None else limit - len(continuation_ids)
        if room is not None and room < 1:
            raise ValueError(f"a continuation of {len(continuation_ids)} tokens does not fit a context of {limit}")
        if not raw:
            return self._prompt_ids(context, room), continuation_ids
        context_ids = self.text.context_ids(context)
        return context_ids if room is None else context_ids[-room:], continuation_ids


def row_logprobs(
    model: PreTrainedModel,
    text: Text,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_tokens: int = 8192,
    on_rows: Callable[[int], None] | None = None,
) -> list[tuple[float, int]]:
    """Return, per (context, continuation) in ids, the continuation's total log-probability in nats and its tokens.

    Rows of like length share a batch, each at most `batch_tokens` padded; `on_rows` hears how many rows it had.
    """
    found = [(0.0, 0)] * len(rows)
    lengths = [len(context) + len(continuation) for context, continuation in rows]
    for index in length_sorted_batches(lengths, max_tokens=batch_tokens):
        tokens_BT, attention_BT, mask_BC = (
            t.to(model.device) for t in text.pad_left_right([rows[i][0] for i in index], [rows[i][1] for i in index])
        )
        if mask_BC.any():
            with torch.inference_mode():
                logprobs_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
            total_B = torch.where(mask_BC, logprobs_BC.double(), 0).sum(1)
            for i, total, number in zip(index, total_B.tolist(), mask_BC.sum(1).tolist(), strict=True):
                found[i] = (total, number)
        if on_rows is not None:
            on_rows(len(index))
    return found


def _numbered(prompts: Sequence[str]) -> list[str]:
    """Return each prompt with how many of its equals stand before it."""
    seen: Counter[str] = Counter()
    names = []
    for prompt in prompts:
        names.append(f"{seen[prompt]}/{prompt}")
        seen[prompt] += 1
    return names
