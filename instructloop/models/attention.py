"""Attention between the rows of a packed batch, as an attention implementation of transformers; no packing, no model.

A call that brings `packing` is attended by its blocks, any other as by torch's fused attention. It is the call that
decides, so that gradient checkpointing, which repeats a call in the backward pass, repeats the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from instructloop.models.packed import Block, Packing

NAME = "packed"
"""What the configuration of a model in memory says; transformers writes it into no folder."""
FUSED_BYTES = 1024
"""Where a row of scores takes as much (256 tokens in float32, 512 in bfloat16) torch's fused attention is the faster
on a CPU, and it keeps no probabilities for the backward pass; below, matrix products are (docs/performance.md)."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return what each token gathers, [B, T, H, E], from query [B, H, T, E]; key and value may have fewer heads."""
    if packing is None:
        window = {} if sliding_window is None else {"sliding_window": sliding_window}
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **window, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_NHE, key_NGE, value_NGE = (states[0].transpose(0, 1) for states in (query, key, value))
    widest = max(block.key_RS.shape[1] for block in packing.blocks)
    if dropout or query.device.type != "cpu" or widest * query.element_size() >= FUSED_BYTES:
        return _fused(query_NHE, key_NGE, value_NGE, packing, scale=scale, window=sliding_window, dropout=dropout), None
    found: Any = _Products.apply(query_NHE, key_NGE, value_NGE, packing, scale, sliding_window)
    return found[None], None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class _Products(torch.autograd.Function):
    """Softmax attention by matrix products over blocks of rows; probabilities are kept in the model's dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        query_NHE: Tensor,
        key_NGE: Tensor,
        value_NGE: Tensor,
        packing: Packing,
        scale: float,
        window: int | None,
    ) -> Tensor:
        gathered, probs = list[Tensor](), list[Tensor]()
        for block, query, key, value in _blocks(packing, query_NHE, key_NGE, value_NGE):
            scores = torch.bmm(query.mul_(scale), key.transpose(1, 2))
            (num_rows, num_keys), num_queries = block.key_RS.shape, block.query_RQ.shape[1]
            scores.view(num_rows, -1, num_queries, num_keys).masked_fill_(block.unseen(window)[:, None], -torch.inf)
            probs.append(scores.softmax(-1))  # in float32 inside, whatever the dtype
            gathered.append(torch.bmm(probs[-1], value))
        ctx.save_for_backward(query_NHE, key_NGE, value_NGE, *probs)
        ctx.packing, ctx.scale = packing, scale
        return _of_tokens(gathered, packing.lines("queries", query_NHE.shape[1]), query_NHE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_NHE, key_NGE, value_NGE, *probs = ctx.saved_tensors
        packing: Packing = ctx.packing
        num_heads = query_NHE.shape[1]
        lines = _lines(gradients[0], packing.taken("query_RQ", num_heads))
        lines.index_fill_(0, packing.lines("padding", num_heads), 0.0)
        parts = lines.split([block.query_RQ.numel() * num_heads for block in packing.blocks])
        query_parts, key_parts, value_parts = list[Tensor](), list[Tensor](), list[Tensor]()
        for (_, query, key, value), prob, part in zip(
            _blocks(packing, query_NHE, key_NGE, value_NGE), probs, parts, strict=True
        ):
            gradient = part.view(query.shape)
            value_parts.append(torch.bmm(prob.transpose(1, 2), gradient))
            score = torch.ops.aten._softmax_backward_data(
                torch.bmm(gradient, value.transpose(1, 2)), prob, -1, prob.dtype
            )
            query_parts.append(torch.bmm(score, key).mul_(ctx.scale))
            key_parts.append(torch.bmm(score.transpose(1, 2), query).mul_(ctx.scale))
        return (
            _of_tokens(query_parts, packing.lines("queries", num_heads), query_NHE),
            _of_keys(key_parts, packing, key_NGE),
            _of_keys(value_parts, packing, value_NGE),
            *(None, None, None),
        )


def _blocks(
    packing: Packing, query_NHE: Tensor, key_NGE: Tensor, value_NGE: Tensor
) -> Iterator[tuple[Block, Tensor, Tensor, Tensor]]:
    """Yield each block with its queries, keys and values, [R G, …, E]: a group of query heads is one matrix."""
    num_heads, num_groups = query_NHE.shape[1], key_NGE.shape[1]
    query = _lines(query_NHE, packing.taken("query_RQ", num_heads))
    key, value = (_lines(states, packing.taken("key_RS", num_groups)) for states in (key_NGE, value_NGE))
    query_sizes = [block.query_RQ.numel() * num_heads for block in packing.blocks]
    key_sizes = [block.key_RS.numel() * num_groups for block in packing.blocks]
    parts = zip(packing.blocks, query.split(query_sizes), key.split(key_sizes), value.split(key_sizes), strict=True)
    for block, query_part, key_part, value_part in parts:
        shape = len(block.query_RQ) * num_groups, -1, query.shape[-1]
        yield block, query_part.view(shape), key_part.view(shape), value_part.view(shape)


def _lines(states_NHE: Tensor, lines: Tensor) -> Tensor:
    return states_NHE.reshape(-1, states_NHE.shape[-1]).index_select(0, lines)


def _of_tokens(parts: Sequence[Tensor], lines: Tensor, like: Tensor) -> Tensor:
    """Return the lines of all tokens out of the blocks, in the shape of `like`."""
    flat = [part.view(-1, part.shape[-1]) for part in parts]
    return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, lines).view(like.shape)


def _of_keys(parts: Sequence[Tensor], packing: Packing, like: Tensor) -> Tensor:
    """Return the gradient of keys or values: of a token in its own row and in all rows that begin with it."""
    num_groups = like.shape[1]
    total = _of_tokens(parts, packing.lines("keys", num_groups), like)
    if len(packing.shared_M):
        again = _of_tokens(parts, packing.lines("shared", num_groups), like[packing.shared_M])
        total += (
            torch.zeros_like(like, dtype=torch.float32).index_add_(0, packing.shared_M, again.float()).to(like.dtype)
        )
    return total


def _fused(
    query_NHE: Tensor,
    key_NGE: Tensor,
    value_NGE: Tensor,
    packing: Packing,
    *,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    """Return [1, N, H, E] by torch's fused attention over blocks."""
    num_tokens, num_heads, width = query_NHE.shape
    num_repeats = num_heads // key_NGE.shape[1]
    parts = list[Tensor]()
    for block in packing.blocks:
        query, key, value = (
            states.index_select(0, token_RX.flatten()).view(*token_RX.shape, -1, width).transpose(1, 2)
            for states, token_RX in (
                (query_NHE, block.query_RQ),
                (key_NGE, block.key_RS),
                (value_NGE, block.key_RS),
            )
        )
        key, value = (states.repeat_interleave(num_repeats, 1) for states in (key, value))
        is_causal = window is None and block.query_RQ.shape == block.key_RS.shape
        mask = None if is_causal else ~block.unseen(window)[:, None]
        found = F.scaled_dot_product_attention(query, key, value, mask, dropout, is_causal, scale=scale)
        parts.append(found.transpose(1, 2).reshape(-1, num_heads, width))
    place_N = packing.queries.start_N + packing.queries.column_N
    return torch.cat(parts).index_select(0, place_N).view(1, num_tokens, num_heads, width)
