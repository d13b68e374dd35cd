"""The next token: how it is drawn from logits, and with which log-probability; no model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64
"""The cumulative distribution is taken over sums of as many neighbouring ids first, then within one block."""
FIRST_LARGEST = 256
"""Top-p looks at so many of the most likely tokens first, and at more only where these do not make up its share."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the most likely one."""

    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens {self.max_new_tokens} must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} must not be negative")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} must be above 0 and at most 1")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k} must be at least 0; 0 is all")
        if self.temperature == 0 and (self.top_p < 1 or self.top_k):
            raise ValueError("top_p and top_k have no effect at temperature 0")


def draw(
    logits_AV: Float[Tensor, "A V"], uniform_A: Float[Tensor, " A"], sampling: Sampling
) -> tuple[Int[Tensor, " A"], Float[Tensor, " A"]]:
    """Return a token and its log-probability per row, by inverse CDF: `torch.multinomial` is slow over large V.

    The log-probability is that at the temperature, before top-k and top-p; NaN where the logits are not finite.
    """
    if sampling.temperature == 0:
        logit_A, token_A = logits_AV.max(-1)
        return token_A, logit_A - logits_AV.logsumexp(-1)
    if sampling.temperature != 1:
        logits_AV = logits_AV / sampling.temperature
    if missing := -logits_AV.shape[1] % BLOCK:
        logits_AV = F.pad(logits_AV, (0, missing), value=-torch.inf)
    logits_AV = logits_AV - logits_AV.amax(-1, keepdim=True)
    weight_AV = logits_AV.exp()
    total_A = _blocks(weight_AV).sum(-1).sum(-1)
    kept_ANK = _blocks(_truncated(weight_AV, sampling))
    kept_AN = kept_ANK.sum(-1)
    block_A1, rest_A1 = _passed(kept_AN, uniform_A[:, None] * kept_AN.sum(-1, keepdim=True))
    inside_AK = kept_ANK.take_along_dim(block_A1[:, :, None], 1)[:, 0]
    token_A1 = block_A1 * BLOCK + _passed(inside_AK, rest_A1)[0]
    return token_A1[:, 0], logits_AV.gather(1, token_A1)[:, 0] - total_A.log()


def _blocks(weight_AV: Tensor) -> Tensor:
    return weight_AV.unflatten(1, (-1, BLOCK))


def _passed(weight_AK: Tensor, target_A1: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the cumulative sum passes the target, and what is left of the target there.

    A target at the sum, which rounding makes, stays below it: what has no weight is never chosen.
    """
    cumulative_AK = weight_AK.cumsum(-1)
    total_A1 = cumulative_AK[:, -1:]
    target_A1 = torch.minimum(target_A1, total_A1.nextafter(torch.zeros_like(total_A1)))
    place_A1 = torch.searchsorted(cumulative_AK, target_A1, right=True)
    place_A1.clamp_(max=weight_AK.shape[1] - 1)  # where the sum is NaN; the log-probability says so
    before_A1 = torch.where(place_A1 > 0, cumulative_AK.gather(1, (place_A1 - 1).clamp(min=0)), 0)
    return place_A1, target_A1 - before_A1


def _truncated(weight_AV: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k and then top-p leave out; equals of the last one that stays in stay in too."""
    size = weight_AV.shape[1]
    top_k = min(sampling.top_k or size, size)
    if top_k < size:
        largest_AK = weight_AV.topk(top_k, -1).values
        weight_AV = torch.where(weight_AV >= largest_AK[:, -1:], weight_AV, 0)
    if sampling.top_p == 1:
        return weight_AV
    share_A1 = sampling.top_p * weight_AV.sum(-1, keepdim=True)
    num_looked_at = min(FIRST_LARGEST, top_k)
    while True:
        largest_AK = weight_AV.topk(num_looked_at, -1).values
        before_AK = largest_AK.cumsum(-1) - largest_AK
        if num_looked_at == size or bool((before_AK[:, -1:] >= share_A1).all()):
            break
        num_looked_at = min(8 * num_looked_at, size)
    smallest_A1 = torch.where(before_AK < share_A1, largest_AK, torch.inf).amin(-1, keepdim=True)
    return torch.where(weight_AV >= smallest_A1, weight_AV, 0)
