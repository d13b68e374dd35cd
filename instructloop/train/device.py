"""Where training happens: on the first CUDA device where there is one, on the processor otherwise."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def to_training_device(model: Model) -> Model:
    """Move a model there and return it."""
    nn.Module.to(model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return model
