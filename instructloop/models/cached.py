"""Decoding of any architecture: transformers' own forward with a preallocated key/value cache; no sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from instructloop.models.hidden import accepted
from instructloop.models.packed import positions

KEPT_FRACTION = 0.8
"""When fewer of the cache's rows than this are still decoded, the others leave it."""


class CachedForward:
    """Rows that are decoded together from their first token to their last; rows may leave, none may join."""

    can_join = False

    def __init__(self, model: PreTrainedModel, max_new_tokens: int):
        self.model, self.max_new_tokens = model, max_new_tokens

    def join(self, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "A V"]:
        """Return the logits after each prompt; whoever was there before is forgotten."""
        width, device = max(map(len, prompts)), self.model.device
        # What stands in a column that attention leaves out is never read; 0 is an id that every model has.
        tokens_AP = torch.tensor([[0] * (width - len(prompt)) + [*prompt] for prompt in prompts], device=device)
        lengths_A = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        attention_AP = torch.arange(width, 0, -1, device=device) <= lengths_A
        self.cache = _cache(self.model, width + self.max_new_tokens)
        self.attention_AT = attention_AP.long()
        position_AP = positions(attention_AP)
        self.position_A1 = position_AP[:, -1:]
        self.row_A = torch.arange(len(prompts), device=device)  # of the rows that are decoded, their place in the cache
        return self._next_logits(tokens_AP, position_AP)

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "A V"]:
        """Return the logits after one more token of each row."""
        num_rows = len(self.attention_AT)
        self.attention_AT = torch.cat([self.attention_AT, self.attention_AT.new_ones(num_rows, 1)], 1)
        self.position_A1 = self.position_A1 + 1
        token_A = torch.tensor(tokens, device=self.row_A.device)
        token_B = token_A.new_zeros(num_rows).index_copy(0, self.row_A, token_A)
        return self._next_logits(token_B[:, None], self.position_A1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        self.row_A = self.row_A[torch.tensor(rows, dtype=torch.long, device=self.row_A.device)]
        if 0 < len(rows) < KEPT_FRACTION * len(self.attention_AT):
            self.cache.batch_select_indices(self.row_A)
            self.attention_AT, self.position_A1 = self.attention_AT[self.row_A], self.position_A1[self.row_A]
            self.row_A = torch.arange(len(rows), device=self.row_A.device)

    def _next_logits(self, tokens_BT: Tensor, position_BT: Tensor) -> Tensor:
        inputs = {"input_ids": tokens_BT, "attention_mask": self.attention_AT, "past_key_values": self.cache}
        inputs |= accepted(self.model, position_ids=position_BT, logits_to_keep=1)
        return self.model(**inputs, use_cache=True).logits[self.row_A, -1].float()


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
