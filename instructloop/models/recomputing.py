"""Activations that are computed again in the backward pass instead of being kept: less memory, the same gradients."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def recompute_activations(model: nn.Module) -> None:
    """Keep only what enters each layer, and put the model in training mode, where alone transformers does so.

    Turn dropout off before, or want it. ValueError where an architecture cannot.
    """
    whole = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    whole.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # It hooks the embeddings for the sake of reentrant checkpoints; a model with hooks is sampled by a slower path.
    whole.disable_input_require_grads()
    model.train()
