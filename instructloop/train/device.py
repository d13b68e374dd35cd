"""Where and in which precision training happens: on the first CUDA device where there is one, else on the processor."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

from instructloop.models.masters import lower
from instructloop.models.scalar import ScalarModel

Model = TypeVar("Model", bound=nn.Module)
Dtype = Literal["float32", "bfloat16"]
"""What a network computes in; what is trained in bfloat16 has float32 masters (docs/decisions/0007-precision.md)."""


def to_training_device(model: Model, dtype: Dtype = "float32") -> Model:
    """Move a model there and return it, computing in `dtype`; the linear head of a ScalarModel stays float32.

    Freeze what is not trained before: only what is trained gets float32 masters.
    """
    nn.Module.to(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    head = [*model.head.parameters(), model.bias] if isinstance(model, ScalarModel) else []
    lower(model, torch.bfloat16 if dtype == "bfloat16" else torch.float32, keep=head)
    return model
