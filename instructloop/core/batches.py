"""The nouns of the loop as tensors: LMBatch, RankedBatch, Rollout; and the legend of dimensions for the whole project.

B sequences, P prompt tokens (left-padded), C completion tokens (right-padded), T = P + C, K completions of one prompt,
N comparisons, V vocabulary, D hidden size. A tensor's name ends in its dimensions: `logprobs_BC`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from instructloop.core.rankings import comparisons


@dataclass(frozen=True, slots=True)
class LMBatch:
    """Text to learn from. The last C of T tokens are the completion; pretraining text has P = 1."""

    tokens_BT: Int[Tensor, "B T"]
    attention_BT: Bool[Tensor, "B T"]
    mask_BC: Bool[Tensor, "B C"]  # True where the target token counts: the completion and its closing EOS

    def rows(self, index: Int[Tensor, " M"]) -> LMBatch:
        """Return the batch of the rows in `index`, in that order."""
        return LMBatch(self.tokens_BT[index], self.attention_BT[index], self.mask_BC[index])


@dataclass(frozen=True, slots=True)
class RankedBatch:
    """K forwards per prompt and all comparisons of that prompt in the same step (paper 3.5)."""

    tokens_BT: Int[Tensor, "B T"]
    attention_BT: Bool[Tensor, "B T"]
    prompt_B: Int[Tensor, " B"]  # rows with the same number have the same prompt
    winner_N: Int[Tensor, " N"]  # rows of tokens_BT
    loser_N: Int[Tensor, " N"]
    weight_N: Float[Tensor, " N"]  # 1 / comparisons of that ranking: each prompt counts once


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the old policy did and thought: sampled tokens, their log-probabilities, values, advantages, returns."""

    tokens_BT: Int[Tensor, "B T"]
    attention_BT: Bool[Tensor, "B T"]
    mask_BC: Bool[Tensor, "B C"]  # sampled tokens, the closing EOS among them
    logprobs_BC: Float[Tensor, "B C"]
    value_BC: Float[Tensor, "B C"]
    advantage_BC: Float[Tensor, "B C"]
    return_BC: Float[Tensor, "B C"]

    def rows(self, index: Int[Tensor, " M"]) -> Rollout:
        """Return the rollout of the rows in `index`, in that order: a minibatch."""
        return Rollout(*(getattr(self, field.name)[index] for field in fields(self)))


Batch = TypeVar("Batch", LMBatch, RankedBatch, Rollout)


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Return the batch with every tensor on `device`."""
    return type(batch)(*(getattr(batch, field.name).to(device) for field in fields(batch)))


def pair_rows(
    rankings: Sequence[Sequence[Sequence[int]]],
) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], Float[Tensor, " N"]]:
    """Return winner_N, loser_N, weight_N of RankedBatch from rankings whose tiers hold row numbers of tokens_BT.

    A ranking with M comparisons gives each of them weight 1 / M: the divisor of eq. 1 is the number of non-tied pairs,
    so that a prompt weighs 1. A ranking that is one single tier has no comparison and leaves no trace.
    """
    winners, losers, weights = list[int](), list[int](), list[float]()
    for tiers in rankings:
        pairs = list(comparisons(tiers))
        winners += [winner for winner, _ in pairs]
        losers += [loser for _, loser in pairs]
        weights += [1.0 / len(pairs) for _ in pairs]
    as_rows = [torch.tensor(rows, dtype=torch.int64) for rows in (winners, losers)]
    return as_rows[0], as_rows[1], torch.tensor(weights, dtype=torch.float32)
