"""Hidden states and logits at the tokens that are asked for, computed on real tokens alone where a model allows it."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from instructloop.models import attention
from instructloop.models.last_layer import last_layer_for
from instructloop.models.packed import pack, positions

FAMILIES = frozenset({"cohere", "gemma", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mistral"})
FAMILIES |= {"olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
"""The model types in which one token sees another by attention alone, by transformers' interface; all are tested."""


def hidden_at(
    transformer: nn.Module,
    tokens_BT: Int[Tensor, "B T"],
    attention_BT: Bool[Tensor, "B T"],
    wanted_BT: Bool[Tensor, "B T"],
    *,
    prompt_B: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "M D"]:
    """Return the last hidden state at each wanted token, row by row; `wanted_BT` is within the attention.

    Rows with the same number in `prompt_B` may have the hidden states of what they all begin with computed once.
    """
    if not _is_packed(transformer, attention_BT, prompt_B):
        padded = _padded(transformer, tokens_BT, attention_BT)
        with _last_layer_for(transformer, wanted_BT.flatten().nonzero()[:, 0], wanted_BT.numel()):
            return transformer(**padded).last_hidden_state[wanted_BT]
    packed, number_M = _packed(transformer, tokens_BT, attention_BT, wanted_BT, prompt_B)
    with _last_layer_for(transformer, number_M, packed["input_ids"].numel()):
        return transformer(**packed).last_hidden_state[0].index_select(0, number_M)


def _last_layer_for(transformer: nn.Module, wanted_M: Tensor, num_tokens: int) -> AbstractContextManager[None]:
    return last_layer_for(transformer, wanted_M, num_tokens) if is_packable(transformer) else nullcontext()


def logits_at(
    model: nn.Module, tokens_BT: Int[Tensor, "B T"], attention_BT: Bool[Tensor, "B T"], wanted_BT: Bool[Tensor, "B T"]
) -> Float[Tensor, "M V"]:
    """Return the model's own logits at each wanted token, row by row."""
    if not _is_packed(model, attention_BT, None):
        first = int(wanted_BT.any(0).int().argmax())
        num_kept = wanted_BT.shape[1] - first
        padded = _padded(model, tokens_BT, attention_BT) | accepted(model, logits_to_keep=num_kept)
        return model(**padded).logits[:, -num_kept:][wanted_BT[:, first:]]
    packed, number_M = _packed(model, tokens_BT, attention_BT, wanted_BT, None)
    return model(**packed, logits_to_keep=number_M).logits[0]


def is_packable(model: nn.Module) -> bool:
    """Return whether rows that lie one after the other in one row are kept apart by our attention."""
    if not isinstance(model, PreTrainedModel):
        return False
    config = model.config
    is_causal = getattr(config, "is_causal", True) and not getattr(config, "use_bidirectional_attention", False)
    return config.model_type in FAMILIES and is_causal and config._attn_implementation in ("sdpa", attention.NAME)


def _is_packed(model: nn.Module, attention_BT: Tensor, prompt_B: Tensor | None) -> bool:
    """Return whether packing helps: not in float32 rows without padding (docs/performance.md)."""
    if not is_packable(model):
        return False
    assert isinstance(model, PreTrainedModel)
    return model.dtype != torch.float32 or prompt_B is not None or not bool(attention_BT.all())


def _packed(
    model: Any, tokens_BT: Tensor, attention_BT: Tensor, wanted_BT: Tensor, prompt_B: Tensor | None
) -> tuple[dict[str, Any], Tensor]:
    """Return the arguments of a packed call, and the places of what is wanted in its one row.

    The mask has four dimensions, which transformers hands on to the attention as it is; ours reads none, and any other
    fails on one that is empty.
    """
    model.config._attn_implementation = attention.NAME
    packing = pack(tokens_BT, attention_BT, prompt_B)
    arguments = {
        "input_ids": packing.tokens_1N,
        "position_ids": packing.position_1N,
        "attention_mask": torch.ones(1, 1, 0, 0, dtype=torch.bool, device=tokens_BT.device),
        "use_cache": False,
        "packing": packing,
    }
    return arguments, packing.number_BT[wanted_BT]


def _padded(model: nn.Module, tokens_BT: Tensor, attention_BT: Tensor) -> dict[str, object]:
    inputs = {"input_ids": tokens_BT, "attention_mask": attention_BT.long(), "use_cache": False}
    return inputs | accepted(model, position_ids=positions(attention_BT))


def accepted(model: nn.Module, **arguments: object) -> dict[str, object]:
    """Return those arguments that the model's forward names: not every architecture has positions or a logits slice."""
    names = _forward_names(type(model))
    return {name: value for name, value in arguments.items() if name in names}


@lru_cache
def _forward_names(model_class: type[nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)
