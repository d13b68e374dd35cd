"""A language model from nothing: a Llama with random weights for a given tokenizer."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from instructloop.models.lm import embeddings
from instructloop.models.text import Text


def new_lm(text: Text, *, width: int, layers: int, heads: int, context: int, seed: int) -> PreTrainedModel:
    """Return a Llama with tied embeddings, MLP of 8/3 `width` and random float32 weights drawn from `seed`.

    Weights have standard deviation 1 / sqrt(width), so that attention is not uniform at first: at this size
    transformers' .02 leaves a model for hundreds of steps unable to copy.
    """
    if width % (2 * heads):
        raise ValueError(f"width {width} must be a multiple of 2 * heads = {2 * heads}: rotary positions turn pairs")
    config = LlamaConfig(
        vocab_size=len(text.tokenizer),
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        initializer_range=width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=text.eos_id,
        pad_token_id=text.pad_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    embeddings(model).padding_idx = None  # as in load_lm
    return model
