"""The size of a model from its configuration alone: it is built without any memory, on torch's meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from instructloop.core.costs import Shape
from instructloop.models.lm import UNREADABLE, quiet, why


def built(source: str | Path) -> Any:
    """Return the language model that a folder or a hub name describes, without weights; a .gguf file too."""
    path = Path(source)
    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(str(path.parent if where else source), trust_remote_code=False, **where)
            return AutoModelForCausalLM.from_config(config)
    except UNREADABLE as error:
        raise ValueError(f"{source} has no configuration of a language model: {why(error)}") from error


def shape_of(model: Any) -> Shape:
    """Return the numbers that a model's costs follow from; its parameters are counted, a tied one once."""
    config = model.config.get_text_config()
    tables = {id(one): one for one in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)}
    positions = [one for one in model.modules() if isinstance(one, nn.Embedding)]  # learned positions are looked up too
    tables |= {id(one.weight): one.weight for one in positions}
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    return Shape(
        parameters=sum(one.numel() for one in model.parameters()),
        embeddings=sum(one.numel() for one in tables.values()),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        groups=groups,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocabulary=model.get_output_embeddings().weight.shape[0],
    )


def adapter_sides(model: Any, targets: str | tuple[str, ...]) -> int:
    """Return inputs plus outputs of the linear layers that an adapter on `targets` stands beside, in all."""
    total = 0
    for name, module in model.base_model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and (targets == "all-linear" or name.rsplit(".", 1)[-1] in targets):
            total += sum(module.weight.shape)
    return total
