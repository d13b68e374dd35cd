"""The last layer computed only for tokens whose hidden states are asked for; no packing.

Nobody attends to what the last layer makes of a token, so for the others it need make nothing but keys and values: not
queries, nor the attention's output, nor the MLP, which together are five sixths of its products.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

WORTH_FRACTION = 0.8
"""Where more of the tokens are wanted than this, all are computed: taking some out costs more than it saves."""
PER_TOKEN = ("q_proj", "o_proj", "c_proj", "dense")
"""Of the attention, what works on each token by itself and is not keys or values, as the families call it."""


@contextmanager
def last_layer_for(transformer: nn.Module, wanted_M: Tensor, num_tokens: int) -> Generator[None]:
    """Within, the transformer's last hidden states are right at `wanted_M` alone, numbers among all tokens of a batch.

    Gradients are those of these hidden states. Nothing changes where somebody else has replaced what a module
    computes. Where layers are computed again in the backward pass this one is not: it would be the first, and what it
    made is then still there anyway.
    """
    layer: Any = layers_of(transformer)[-1]
    parts = _parts(layer)
    if len(wanted_M) >= WORTH_FRACTION * num_tokens or any("forward" in vars(part) for part in parts):
        yield
        return
    is_wanted_N = torch.zeros(num_tokens, dtype=torch.bool, device=wanted_M.device)
    is_wanted_N[wanted_M] = True
    distinct_M = is_wanted_N.nonzero()[:, 0]
    is_recomputed = layer.gradient_checkpointing
    layer.gradient_checkpointing = False
    for part in parts:
        part.forward = _at(part.forward, distinct_M)
    try:
        yield
    finally:
        layer.gradient_checkpointing = is_recomputed
        for part in parts:
            del part.forward


def layers_of(transformer: Any) -> nn.ModuleList:
    """Return the layers of a model without its head."""
    return getattr(transformer, "layers", None) or transformer.h


def _parts(layer: Any) -> list[nn.Module]:
    """Return the modules of a layer that need not see every token."""
    [attention] = [getattr(layer, name) for name in ("self_attn", "attn", "attention") if hasattr(layer, name)]
    return [layer.mlp, *(getattr(attention, name) for name in PER_TOKEN if hasattr(attention, name))]


def _at(forward: Callable[[Tensor], Tensor], wanted_M: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a forward that computes the wanted tokens; the others get 0."""

    def narrowed(x: Tensor) -> Tensor:
        rows_ND = x.flatten(0, -2)
        found_MD = forward(rows_ND.index_select(0, wanted_M)[None])[0]
        out_ND = found_MD.new_zeros(len(rows_ND), found_MD.shape[-1]).index_copy(0, wanted_M, found_MD)
        return out_ND.view(*x.shape[:-1], found_MD.shape[-1])

    return narrowed
