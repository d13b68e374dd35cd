"""Sums over what a mask keeps: `Sum`, `masked_sum`, `whiten`; nothing here divides by a number it was not given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sum:
    """A mean that can still be merged: a total and what it is to be divided by. `+` merges micro-batches and ranks."""

    total: Tensor | float | int
    count: Tensor | float | int

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.total + other.total, self.count + other.count)

    def mean(self) -> Tensor:
        """Return total / count, float32, gradient kept; ValueError when nothing was counted."""
        if float(self.count) == 0.0:
            raise ValueError("mean of a Sum with count 0: no token, pair or episode was counted")
        return torch.as_tensor(self.total, dtype=torch.float32) / self.count

    def detach(self) -> Sum:
        """Return the same numbers without their graph, for metrics that outlive the backward pass."""
        return Sum(
            self.total.detach() if isinstance(self.total, Tensor) else self.total,
            self.count.detach() if isinstance(self.count, Tensor) else self.count,
        )

    def __float__(self) -> float:
        return float(self.detach().mean())


def masked_sum(x_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]) -> Sum:
    """Return the sum of `x_BC` where the mask is True, in float32, and their number. What is off is never read."""
    total = torch.where(mask_BC, x_BC, 0.0).float().sum()
    return Sum(total, mask_BC.sum())


def whiten(x_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"], *, shift_mean: bool) -> Float[Tensor, "B C"]:
    """Return (x - mean) / sqrt(var + 1e-8) over the mask, 0 off it; float32, population variance.

    `shift_mean=True` leaves mean 0 (advantages); False adds it back (rewards: their mean is part of the objective).
    """
    count = mask_BC.sum().clamp(min=1)
    x = torch.where(mask_BC, x_BC.float(), 0.0)
    mean = x.sum() / count
    centred = torch.where(mask_BC, x - mean, 0.0)
    whitened = centred * torch.rsqrt(centred.square().sum() / count + 1e-8)
    return whitened if shift_mean else torch.where(mask_BC, whitened + mean, 0.0)
