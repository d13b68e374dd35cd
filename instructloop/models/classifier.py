"""Transformers' own one-label classifier, made around the transformer of a language model; scores are in scalar.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from instructloop.models.lm import quiet


def classifier_of(model: PreTrainedModel, backbone: Any) -> PreTrainedModel:
    """Return transformers' one-label classifier for a language model, in eval mode, on a copy of its transformer.

    The head is not drawn yet; the transformer's configuration is the classifier's from now on.
    """
    config = backbone.config
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]), quiet():  # what is drawn is overwritten; the caller's RNG must not move
        try:
            with torch.device("meta"):
                scalar = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype)
        except ValueError as error:
            raise ValueError(f"{type(model).__name__} has no sequence-classification sister in transformers") from error
        scalar.score = nn.Linear(scalar.score.in_features, 1, bias=False, dtype=model.dtype, device=model.device)
    setattr(scalar, scalar.base_model_prefix, backbone)
    return scalar.eval()
