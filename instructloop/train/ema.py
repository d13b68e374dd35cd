"""The moving average of a model's weights, counted in optimizer steps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from instructloop.models.masters import round_masters, trained


class Ema:
    """average <- decay * average + (1 - decay) * weights, once per optimizer step (paper C.4: decay 0.992).

    Starts at the weights themselves, so it needs no correction for a start at zero. Kept in float32, of what is trained
    alone, and taken from the float32 masters of weights that have them. Of an adapter A and B are averaged, each by
    itself, not their product.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        weights = trained(model)
        self.names, self.weights = list(weights), list(weights.values())
        self.averages = [weight.detach().float().clone() for weight in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average one step towards the weights."""
        torch._foreach_lerp_(self.averages, [w.detach().float() for w in self.weights], 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def applied(self) -> Generator[nn.Module]:
        """Within, the model (and its masters) carry the average; afterwards its own weights again, bit for bit."""
        own = [weight.detach().clone() for weight in self.weights]
        self._set(self.averages)
        try:
            yield self.model
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)
        round_masters(self.model)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(zip(self.names, self.averages, strict=True))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the averages back; ValueError when they are of another model."""
        if list(state) != self.names:
            raise ValueError("the average is of a model with other weights")
        for average, value in zip(self.averages, state.values(), strict=True):
            average.copy_(value)
