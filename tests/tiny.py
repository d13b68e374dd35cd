"""Tiny models made on the spot: a byte-level tokenizer, a Llama (rotary, RMSNorm), a GPT-2 (learned positions)."""

from __future__ import annotations

from functools import lru_cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from instructloop.models.text import Text

CORPUS = ["The dog barks. The cat sleeps.", "What does the dog say?\nThe dog says woof.", "A bird sings, a fish swims."]


@lru_cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<|end|>", "<|pad|>", "<|begin|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


def tiny_tokenizer(
    *, pad_is_eos: bool = False, bos: bool = False, chat_template: str | None = None
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of about 290 ids; EOS is 0, pad is 1 (or EOS), BOS, where used, is 2."""
    backend = Tokenizer.from_str(_trained())
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|end|>",
        pad_token="<|end|>" if pad_is_eos else "<|pad|>",
        bos_token="<|begin|>" if bos else None,
        chat_template=chat_template,
    )


def tiny_lm(
    architecture: str = "llama",
    *,
    seed: int = 0,
    tied: bool = True,
    pad_is_eos: bool = False,
    bos: bool = False,
    dropout: float = 0.0,
    context: int = 128,
    width: int = 32,
) -> tuple[PreTrainedModel, Text]:
    """Return a random causal LM (2 layers, eval mode) and its Text; weights depend on `seed`.

    `architecture` is "llama", "gpt2", or the name that transformers has for one of Llama's shape.
    """
    text = Text(tiny_tokenizer(pad_is_eos=pad_is_eos, bos=bos))
    size = len(text.tokenizer)
    shared = {
        "vocab_size": size,
        "tie_word_embeddings": tied,
        "pad_token_id": text.pad_id,
        "eos_token_id": text.eos_id,
        "bos_token_id": text.bos_id,
        "initializer_range": 0.2,  # far from uniform, so that a wrong position or mask shows
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "llama":
            llama = LlamaConfig(
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=context,
                attention_dropout=dropout,
                **shared,
            )
            model: PreTrainedModel = LlamaForCausalLM(llama)
        elif architecture != "gpt2":
            other = AutoConfig.for_model(
                architecture,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=width // 4,
                **({"sliding_window": 8} if hasattr(AutoConfig.for_model(architecture), "sliding_window") else {}),
                max_position_embeddings=context,
                attention_dropout=dropout,
                **{**shared, "vocab_size": size + 5},  # rows to spare, as most of them have
            )
            model = AutoModelForCausalLM.from_config(other)
        else:
            gpt2 = GPT2Config(
                n_embd=width,
                n_layer=2,
                n_head=4,
                n_positions=context,
                resid_pdrop=dropout,
                embd_pdrop=dropout,
                attn_pdrop=dropout,
                **shared,
            )
            model = GPT2LMHeadModel(gpt2)
    return model.eval(), text
