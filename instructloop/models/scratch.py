"""A language model from nothing: a byte-level tokenizer trained on a corpus, and a Llama with random weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from instructloop.models.lm import embeddings
from instructloop.models.text import Text


def train_tokenizer(documents: Iterable[str], *, vocabulary: int) -> Text:
    """Return the Text of a byte-level BPE of at most `vocabulary` ids, EOS 0 and pad 1 among them; no BOS."""
    special = ["<|endoftext|>", "<|pad|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary < len(special) + len(alphabet):
        raise ValueError(
            f"vocabulary {vocabulary} must be at least {len(special) + len(alphabet)}: all bytes are in it"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    return Text(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[1]))


def new_lm(text: Text, *, width: int, layers: int, heads: int, context: int, seed: int) -> PreTrainedModel:
    """Return a Llama with tied embeddings, MLP of 8/3 `width` and random float32 weights drawn from `seed`."""
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
