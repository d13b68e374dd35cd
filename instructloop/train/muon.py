"""Muon for the matrices between the layers and Adam for everything else, as one optimizer: fewer steps from nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAdam(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on the weight matrices of attention and MLP; Adam on embeddings, norms and heads.

    For models trained from random weights; a model that was trained with Adam is better tuned with Adam.
    The parameter groups are named `matrices` and `others` and keep rates of their own.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        matrix_lr: float,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ):
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.dim() == 2 and ".layers." in f".{name}"]
        others = [p for _, p in named if not any(p is matrix for matrix in matrices)]
        if not matrices or not others:
            raise ValueError("the model has no matrices inside `layers`, or nothing else: Muon does not know it")
        self._parts: tuple[torch.optim.Optimizer, torch.optim.Optimizer] = (
            torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay),
            torch.optim.AdamW(others, lr=lr, betas=betas, weight_decay=0.0, fused=True),
        )
        super().__init__([{"params": matrices}, {"params": others}], {})
        # The very dictionaries of the two parts: a schedule that sets `lr` here sets it there.
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for group, name in zip(self.param_groups, ("matrices", "others"), strict=True):
            group["name"] = name

    def step(self, closure: Any = None) -> None:
        """Make one step of both."""
        if closure is not None:
            raise ValueError("a closure is not supported: compute the gradient first")
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"matrices": self._parts[0].state_dict(), "others": self._parts[1].state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._parts[0].load_state_dict(state_dict["matrices"])
        self._parts[1].load_state_dict(state_dict["others"])
        self.param_groups = [group for part in self._parts for group in part.param_groups]
