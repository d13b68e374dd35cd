"""Causal language models: load, save, log-probabilities of completions, dropout; no sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from instructloop.files import naming
from instructloop.models.adapters import merged
from instructloop.models.card import write_card
from instructloop.models.head import plain_head, token_logprobs
from instructloop.models.hidden import accepted as accepted  # others look for it here
from instructloop.models.hidden import hidden_at, logits_at
from instructloop.models.masters import as_masters
from instructloop.models.packed import positions as positions
from instructloop.models.text import Text

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)
"""What transformers raises for a folder that is torn, whose sizes disagree, or that is no model at all."""


def why(error: Exception) -> str:
    """Return the first line of what transformers says, in the user's words where it speaks of its own options."""
    first = str(error).strip().split("\n")[0]
    return "weights and config.json disagree about sizes" if "ignore_mismatched_sizes" in first else first


def load_lm(path: str | Path, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Text]:
    """Return a causal LM in eval mode and its Text, from a Hugging Face folder (or hub name, where there is a network).

    Stop ids are the tokenizer's EOS and those of the generation config. ValueError if it cannot be read whole; code
    that a folder brings along is never run.
    """
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(path), dtype=dtype, output_loading_info=True, trust_remote_code=False
            )
        model, report = loaded
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is not a causal language model with a tokenizer that transformers can read: {why(error)}"
        ) from error
    # transformers would give weights that are not there random values, and leave a reward model's head out.
    if report["missing_keys"]:
        raise ValueError(f"{path} lacks weights of a language model: {sorted(report['missing_keys'])[:3]}")
    if "score.weight" in report["unexpected_keys"]:
        raise ValueError(f"{path} is a reward model, not a language model")
    num_embeddings = embeddings(model).num_embeddings
    if len(tokenizer) > num_embeddings:
        raise ValueError(
            f"{path}: the tokenizer has {len(tokenizer)} ids but the model only {num_embeddings} embeddings"
        )
    embeddings(model).padding_idx = None  # it would keep an EOS that is also pad from learning as an input
    return model.eval(), Text(tokenizer, stop_ids_of(model.generation_config))


def load_text(path: str | Path) -> Text:
    """Return the Text of a model's folder without its weights, the stop ids of its generation config apart."""
    try:
        return Text(AutoTokenizer.from_pretrained(str(path)))
    except UNREADABLE as error:
        raise ValueError(f"{path} has no tokenizer that transformers can read: {why(error)}") from error


def stop_ids_of(config: PreTrainedConfig | GenerationConfig | None) -> Sequence[int]:
    """Return the ids that a model's or a generation's configuration calls EOS: none, one or several."""
    stops = getattr(config, "eos_token_id", None)
    return stops if isinstance(stops, Sequence) else [] if stops is None else [stops]


def save_lm(model: PreTrainedModel, text: Text, path: str | Path, *, about: str = "", tags: Sequence[str] = ()) -> None:
    """Write a plain Hugging Face folder: safetensors, tokenizer with its template, generation config, model card.

    `about` is the Markdown body of the card: what the model is and which run made it. Weights with float32 masters are
    saved as these: read in bfloat16 they are the model that was trained, bit for bit. An adapter is merged in float32.
    """
    if model.generation_config is not None:
        model.generation_config.eos_token_id = list(text.stop_ids)
        model.generation_config.pad_token_id = text.pad_id
    with naming(Path(path)):
        with quiet(), as_masters(model), merged(model, torch.float32):
            model.save_pretrained(str(path))
        text.tokenizer.save_pretrained(str(path))
        write_card(Path(path), task="text-generation", about=about, tags=tags)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers shows neither bars nor warnings: what they would say of our folders is no news."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def embeddings(model: PreTrainedModel) -> nn.Embedding:
    """Return the input embeddings."""
    found = model.get_input_embeddings()
    assert isinstance(found, nn.Embedding)
    return found


def context_length(config: PreTrainedConfig) -> int | None:
    """Return the most tokens a sequence may have, None where the configuration does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def context_of(folder: Path) -> int | None:
    """Return the context length that a model folder's configuration says; nothing is loaded."""
    try:
        with quiet():
            return context_length(AutoConfig.from_pretrained(str(folder), trust_remote_code=False))
    except UNREADABLE as error:
        raise ValueError(f"{folder} has no configuration that transformers can read: {why(error)}") from error


def completion_logprobs(
    model: nn.Module,
    tokens_BT: Int[Tensor, "B T"],
    attention_BT: Bool[Tensor, "B T"],
    completion_length: int,
    *,
    temperature: float,
) -> Float[Tensor, "B C"]:
    """Return log p(token) in nats, float32, of the last `completion_length` tokens given all before, at `temperature`.

    The only place of the shift by one and of the temperature. Off the attention the numbers mean nothing. Neither
    padding nor tokens that predict none of the completion are computed where the architecture allows it.
    """
    if not 1 <= completion_length < tokens_BT.shape[1]:
        raise ValueError(
            f"completion_length {completion_length} must be at least 1 and leave a prompt token of {tokens_BT.shape[1]}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature {temperature} must be positive: log-probabilities are not defined at 0")
    seen_BT, mask_BC = attention_BT[:, :-1], attention_BT[:, -completion_length:]
    mask_BC = mask_BC & seen_BT[:, -completion_length:]  # what is predicted and has something to be predicted from
    wanted_BT = F.pad(mask_BC, (seen_BT.shape[1] - completion_length, 0))
    token_M = tokens_BT[:, -completion_length:][mask_BC]
    logprob_M = _logprobs_at(model, tokens_BT[:, :-1], _used(seen_BT, wanted_BT), wanted_BT, token_M, temperature)
    return torch.zeros(mask_BC.shape, device=mask_BC.device).masked_scatter(mask_BC, logprob_M)


def _used(attention_BT: Tensor, wanted_BT: Tensor) -> Tensor:
    """Return the attention without what stands after the last wanted token of its row; whole where nothing is."""
    used_BT = attention_BT & (wanted_BT.flip(1).cumsum(1).flip(1) > 0)
    return used_BT if bool(used_BT.any()) else attention_BT


def _logprobs_at(
    model: nn.Module, tokens_BT: Tensor, attention_BT: Tensor, wanted_BT: Tensor, token_M: Tensor, temperature: float
) -> Float[Tensor, " M"]:
    """Return log p(token) after each wanted token, by the model's head on what is wanted alone where it is a matrix."""
    head = plain_head(model)
    if head is not None:
        assert isinstance(model, PreTrainedModel)
        hidden_MD = hidden_at(model.base_model, tokens_BT, attention_BT, wanted_BT)
        return token_logprobs(hidden_MD, head.weight, head.bias, token_M, temperature=temperature)
    logits_MV = logits_at(model, tokens_BT, attention_BT, wanted_BT).float() / temperature
    return logits_MV.gather(-1, token_M[:, None])[:, 0] - logits_MV.logsumexp(-1)


def disable_dropout(model: nn.Module) -> None:
    """Turn all dropout off for good: modules, attributes that functional dropout reads, and the configuration."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if _is_dropout(name, value):
                setattr(module, name, 0.0)
    for name, value in vars(model.config).items():
        if _is_dropout(name, value):
            setattr(model.config, name, 0.0)


def _is_dropout(name: str, value: object) -> bool:
    return isinstance(value, float) and ("dropout" in name or name.endswith(("pdrop", "drop")))


@contextlib.contextmanager
def residual_dropout(model: nn.Module, probability: float) -> Iterator[None]:
    """Within, drop what each attention and each MLP adds to the residual stream, in training mode (paper C.1: 0.2).

    The model's own dropout is left alone: call `disable_dropout` first to have exactly this. Nothing of it is saved.
    """
    if not 0 <= probability < 1:
        raise ValueError(f"dropout {probability} must be at least 0 and below 1")

    def drop(module: nn.Module, _: object, output: Tensor | tuple[Any, ...]) -> Tensor | tuple[Any, ...]:
        if isinstance(output, tuple):
            return F.dropout(output[0], probability, module.training), *output[1:]
        return F.dropout(output, probability, module.training)

    sublayers = _sublayers(model) if probability else []
    if probability and not sublayers:
        raise ValueError(
            f"dropout {probability} would have no effect: no attention or MLP found in {type(model).__name__}"
        )
    handles = [module.register_forward_hook(drop) for module in sublayers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sublayers(model: nn.Module) -> list[nn.Module]:
    names = {"self_attn", "attn", "attention", "mlp", "feed_forward"}
    layers = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=[])
    return [child for layer in layers for name, child in layer.named_children() if name in names]
