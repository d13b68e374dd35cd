"""Decoding of one batch of prompts: key/value cache, the next token drawn, finished rows leaving; no text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from instructloop.models.hidden import accepted
from instructloop.models.packed import positions

CACHE_BYTES = 2**30
"""A batch takes as many rows as have room for keys and values in this, at most MAX_ROWS."""
MAX_ROWS = 256
KEPT_FRACTION = 0.8
"""When fewer of a batch's rows than this are unfinished, the finished ones leave the cache."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the most likely one."""

    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens {self.max_new_tokens} must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} must be above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k} must be at least 0; 0 is all")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k):
            raise ValueError("top_p and top_k have no effect at temperature 0")


Decoded = tuple[list[int], list[float], bool]
"""Of one row: the sampled ids, their log-probabilities, and whether a stop id came."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    tokens_BP: Tensor,
    attention_BP: Tensor,
    uniform_BC: Tensor,
    sampling: Sampling,
    *,
    on_token: Callable[[int, int], None] | None = None,
) -> list[Decoded]:
    """Return what each row of one batch got, drawn with uniform_BC. Dimension A: the rows still in the batch.

    `on_token` hears (row, token) as they are drawn, of unfinished rows, a row's closing stop id among them.
    """
    device = model.device
    tokens_BP, attention_BP, uniform_BC = (t.to(device) for t in (tokens_BP, attention_BP, uniform_BC))
    (num_rows, width), budget = tokens_BP.shape, sampling.max_new_tokens
    stops = torch.tensor(sampling.stop_ids, device=device)
    sampled_BC = torch.zeros(num_rows, budget, dtype=torch.long, device=device)
    logprobs_BC = torch.zeros(num_rows, budget, device=device)
    length_B = torch.full((num_rows,), budget, device=device)
    finished_B = torch.zeros(num_rows, dtype=torch.bool, device=device)
    attention_AT = torch.cat([attention_BP.long(), attention_BP.new_ones(num_rows, budget, dtype=torch.long)], 1)
    cache = _cache(model, width + budget)
    row_A = torch.arange(num_rows, device=device)
    tokens_A1, position_A1 = tokens_BP, positions(attention_BP)
    for step in range(budget):
        logits_AV = _next_logits(model, tokens_A1, attention_AT[:, : width + step], position_A1, cache)
        token_A, logprob_A = _draw(logits_AV, uniform_BC[row_A, step], sampling)
        if not bool(logprob_A.isfinite().all()):
            raise ValueError(f"the model's logits are not finite at token {step + 1} of a completion, in {model.dtype}")
        logprobs_BC[row_A, step] = logprob_A
        sampled_BC[row_A, step] = token_A
        if on_token is not None:
            for row, token in zip(row_A.tolist(), token_A.tolist(), strict=True):
                if not finished_B[row]:
                    on_token(row, token)
        stopped_A = torch.isin(token_A, stops) & ~finished_B[row_A]
        finished_B[row_A] |= stopped_A
        length_B[row_A[stopped_A]] = step + 1
        alive_A = ~finished_B[row_A]
        num_alive = int(alive_A.sum())
        if num_alive == 0:
            break
        tokens_A1, position_A1 = token_A[:, None], position_A1[:, -1:] + 1
        if num_alive < KEPT_FRACTION * len(row_A):
            keep = alive_A.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            row_A, attention_AT, tokens_A1, position_A1 = (
                t[keep] for t in (row_A, attention_AT, tokens_A1, position_A1)
            )
    lengths = length_B.tolist()
    ids, logprobs, finished = sampled_BC.tolist(), logprobs_BC.tolist(), finished_B.tolist()
    return [(ids[b][:n], logprobs[b][:n], finished[b]) for b, n in enumerate(lengths)]


def _next_logits(
    model: PreTrainedModel, tokens: Tensor, attention: Tensor, position_ids: Tensor, cache: DynamicCache
) -> Float[Tensor, "A V"]:
    arguments = {"input_ids": tokens, "attention_mask": attention, "past_key_values": cache, "use_cache": True}
    arguments |= accepted(model, position_ids=position_ids, logits_to_keep=1)
    return model(**arguments).logits[:, -1].float()


def _draw(logits_AV: Tensor, uniform_A: Tensor, sampling: Sampling) -> tuple[Int[Tensor, " A"], Float[Tensor, " A"]]:
    """Return a token and its log-probability per row, by inverse CDF: `torch.multinomial` is slow over large V."""
    if sampling.temperature == 0:
        logprobs_AV = logits_AV.log_softmax(-1)
        logprob_A, token_A = logprobs_AV.max(-1)
        return token_A, logprob_A
    logprobs_AV = (logits_AV / sampling.temperature).log_softmax(-1)
    kept_AV = _truncate(logprobs_AV.exp(), sampling)
    cumulative_AV = kept_AV.cumsum(-1)
    total_A = cumulative_AV[:, -1]
    below_total_A = total_A.nextafter(torch.zeros_like(total_A))  # so that rounding never passes the last kept token
    target_A = torch.minimum(uniform_A * total_A, below_total_A)
    token_A1 = torch.searchsorted(cumulative_AV, target_A[:, None], right=True)
    token_A1.clamp_(max=logits_AV.shape[1] - 1)  # where the sum is NaN; the log-probability says so
    return token_A1[:, 0], logprobs_AV.gather(1, token_A1)[:, 0]


def _truncate(probs_AV: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and then top-p leave out; equals of the k-th stay in."""
    if sampling.top_k and sampling.top_k < probs_AV.shape[1]:
        smallest_A1 = probs_AV.topk(sampling.top_k, -1).values[:, -1:]
        probs_AV = torch.where(probs_AV >= smallest_A1, probs_AV, 0)
    if sampling.top_p < 1:
        sorted_AV, index_AV = probs_AV.sort(dim=-1, descending=True, stable=True)
        before_AV = sorted_AV.cumsum(-1) - sorted_AV
        sorted_AV = torch.where(before_AV < sampling.top_p * sorted_AV.sum(-1, keepdim=True), sorted_AV, 0)
        probs_AV = torch.zeros_like(probs_AV).scatter(1, index_AV, sorted_AV)
    return probs_AV


class _Preallocated(DynamicLayer):
    """Keys and values of one layer in a buffer of fixed capacity: no copy of the past at each step."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity, self.length = capacity, 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append one step (or the prompt) and return views of all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:2], self.capacity)
            self.buffers = [states.new_empty(*shape, states.shape[-1]) for states in (key_states, value_states)]
        end = self.length + key_states.shape[2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.length : end] = states
        self.length = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows only."""
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self.keys, self.values = (buffer[:, :, : self.length] for buffer in self.buffers)


def _cache(model: PreTrainedModel, capacity: int) -> DynamicCache:
    """Return transformers' cache with full-attention layers preallocated; sliding and other layers stay as they are."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_Preallocated(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def rows_that_fit(model: PreTrainedModel, length: int) -> int:
    """Return how many rows of `length` tokens a batch takes."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    bytes_per_row = 2 * length * config.num_hidden_layers * heads * width * model.dtype.itemsize
    return max(1, min(MAX_ROWS, CACHE_BYTES // bytes_per_row))
