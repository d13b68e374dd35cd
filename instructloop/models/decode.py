"""Decoding of many prompts: who is in the batch, finished rows leaving, waiting ones taking their place; no text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from instructloop.models.cached import CachedForward
from instructloop.models.drawing import Sampling, draw
from instructloop.models.graphed import WORTH_TOKENS, GraphedForward
from instructloop.models.lean import SPARE_COLUMNS, LeanForward, has_lean_shape

CACHE_BYTES = 2**30
"""As many rows are decoded at once as have room for keys and values in this, at most MAX_ROWS."""
MAX_ROWS = 256
JOINING_FRACTION = 0.125
"""Waiting prompts join when as many of the rows are free: a pass over few tokens costs almost as one over many."""
PASS_TOKENS = 4096
"""Prompts are read so many tokens at a time, padding among them."""
LIKE_LENGTH = 1.25
"""The longest prompt of a pass has at most so many times the tokens of the shortest."""


@dataclass(slots=True)
class Decoded:
    """What one row got: the sampled ids, their log-probabilities, and whether a stop id came."""

    index: int
    uniforms: list[float] = field(repr=False)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    is_finished: bool = False


class Forward(Protocol):
    """A model with the keys and values of the rows that are being decoded. Dimension A: those rows, in their order."""

    can_join: bool  # while others are decoded

    def join(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Append rows and return the logits after each prompt, float32."""
        ...

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Return logits_AV after one more token of each row, float32."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        ...


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears of progress: `on_rows` how many rows are done, `on_token` (prompt's index, token) of each token."""

    on_rows: Callable[[int], None] | None = None
    on_token: Callable[[int, int], None] | None = None


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: Callable[[int], list[float]],
    sampling: Sampling,
    *,
    num_slots: int | None = None,
    listeners: Listeners | None = None,
) -> list[Decoded]:
    """Return what each prompt got, row b drawn with the numbers `uniforms(b)`.

    At most `num_slots` rows are decoded at once. Prompts come in the order of their length, equal ones together.
    """
    listeners = listeners or Listeners()
    waiting = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), prompts[row], row), reverse=True)
    longest = len(prompts[waiting[0]]) + sampling.max_new_tokens
    num_slots = min(len(prompts), num_slots or rows_that_fit(model, longest))
    forward = _forward(model, num_slots, longest, sampling.max_new_tokens, num_waiting=len(prompts) - num_slots)
    done: list[Decoded] = []
    rows: list[Decoded] = []
    while waiting or rows:
        num_free = num_slots - len(rows)
        if waiting and (not rows or (forward.can_join and num_free >= JOINING_FRACTION * num_slots)):
            num_joining = min(num_free, _num_of_like_length(prompts, waiting) if forward.can_join else len(waiting))
            fresh = [Decoded(row, uniforms(row)) for row in (waiting.pop() for _ in range(num_joining))]
            logits_AV = forward.join([prompts[row.index] for row in fresh])
            rows = rows + fresh
        else:
            fresh = rows
            logits_AV = forward.step([row.tokens[-1] for row in rows])
        _draw_each(fresh, logits_AV, sampling, listeners.on_token, model.dtype)
        left, kept = _leaving(rows, sampling.max_new_tokens)
        if left:
            forward.keep(kept)
            rows = [rows[place] for place in kept]
            done += left
            if listeners.on_rows is not None:
                listeners.on_rows(len(left))
    return sorted(done, key=lambda row: row.index)


def _forward(model: PreTrainedModel, num_slots: int, longest: int, max_new_tokens: int, *, num_waiting: int) -> Forward:
    if has_lean_shape(model, longest):
        is_recorded = model.device.type == "cuda" and max_new_tokens >= WORTH_TOKENS
        kind = GraphedForward if is_recorded else LeanForward
        return kind(model, num_slots, longest + (SPARE_COLUMNS if num_waiting else 0))
    return CachedForward(model, max_new_tokens)


def _num_of_like_length(prompts: Sequence[Sequence[int]], waiting: Sequence[int]) -> int:
    """Return how many of those that wait, the last of them first, are read in one pass."""
    shortest = len(prompts[waiting[-1]])
    number = 0
    for row in reversed(waiting):
        length = len(prompts[row])
        if number and (length > LIKE_LENGTH * shortest or (number + 1) * length > PASS_TOKENS):
            break
        number += 1
    return number


def _draw_each(
    rows: Sequence[Decoded],
    logits_AV: Tensor,
    sampling: Sampling,
    on_token: Callable[[int, int], None] | None,
    dtype: torch.dtype,
) -> None:
    """Draw the next token of each row and note it; ValueError where the logits are not finite."""
    uniform_A = torch.tensor([row.uniforms[len(row.tokens)] for row in rows], device=logits_AV.device)
    # One transfer from the device a step; a double holds both exactly.
    drawn = torch.stack([found.double() for found in draw(logits_AV, uniform_A, sampling)]).tolist()
    for row, token, logprob in zip(rows, *drawn, strict=True):
        if not math.isfinite(logprob):
            number = len(row.tokens) + 1
            raise ValueError(f"the model's logits are not finite at token {number} of a completion, in {dtype}")
        row.tokens.append(int(token))
        row.logprobs.append(logprob)
        row.is_finished = row.tokens[-1] in sampling.stop_ids
        if on_token is not None:
            on_token(row.index, row.tokens[-1])


def _leaving(rows: Sequence[Decoded], max_new_tokens: int) -> tuple[list[Decoded], list[int]]:
    """Return the rows that are done and the places of the others, the last of which fill the gaps."""
    is_done = [row.is_finished or len(row.tokens) == max_new_tokens for row in rows]
    num_kept = len(rows) - sum(is_done)
    fillers = [place for place in range(num_kept, len(rows)) if not is_done[place]]
    kept = [fillers.pop() if is_done[place] else place for place in range(num_kept)]
    return [row for row, out in zip(rows, is_done, strict=True) if out], kept


def rows_that_fit(model: PreTrainedModel, length: int) -> int:
    """Return how many rows of `length` tokens a batch takes."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    itemsize = 4 if model.device.type == "cpu" else model.dtype.itemsize
    bytes_per_row = 2 * (length + SPARE_COLUMNS) * config.num_hidden_layers * heads * width * itemsize
    return max(1, min(MAX_ROWS, CACHE_BYTES // bytes_per_row))
