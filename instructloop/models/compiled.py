"""Layers that torch compiles: what lies between matrix products becomes a few loops; no attention over packed rows."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from instructloop.models import attention
from instructloop.models.adapters import adapter_layers
from instructloop.models.hidden import is_packable
from instructloop.models.last_layer import layers_of

VARIANTS = 64
"""How often a layer is compiled at most: with and without gradient, packed and padded, for each network's weights."""


def compile_layers(model: nn.Module, *, backend: str = "inductor") -> None:
    """Have every layer but the last compiled when it first runs, for any number of rows and tokens.

    The last one computes other tokens each time (last_layer.py), and would be compiled each time. Losses and gradients
    are the same to 1e-5 in float32, not to the bit. ValueError where the family is not one of `hidden.FAMILIES`, where
    adapters take turns, under gradient checkpointing, or where torch needs a C++ compiler and finds none.
    """
    whole = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    if not is_packable(whole):
        raise ValueError(f"compiles_layers: layers of a {whole.config.model_type} are not known; leave it out")
    if adapter_layers(whole):
        raise ValueError("compiles_layers: layers whose adapters take turns would be compiled each time; leave it out")
    if whole.is_activation_checkpointing:
        raise ValueError("compiles_layers: has no effect under gradient_checkpointing; leave one out")
    if backend == "inductor" and whole.device.type == "cpu":
        require_compiler()
    torch._dynamo.config.recompile_limit = VARIANTS
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))  # its blocks differ each time
    for layer in layers_of(whole.base_model)[:-1]:
        layer.compile(dynamic=True, backend=backend)


def require_compiler() -> None:
    """ValueError where torch finds no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ValueError(
            "compiles_layers: torch found no C++ compiler; install g++ or clang++, name one in CXX, or leave it out"
        ) from None
