"""The four losses of the loop as sums over masks: language modelling, ranking, clipped policy, clipped value."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from instructloop.core.masked import Sum, masked_sum

Metrics = dict[str, Sum]


def lm_loss(logprobs_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]) -> Sum:
    """Return -sum log p(token) over the mask, in nats; the count is tokens: SFT, pretraining, the ptx term of eq. 2."""
    return masked_sum(-logprobs_BC, mask_BC)


def pairwise_ranking_loss(
    score_B: Float[Tensor, " B"],
    winner_N: Int[Tensor, " N"],
    loser_N: Int[Tensor, " N"],
    weight_N: Float[Tensor, " N"],
) -> Sum:
    """Return eq. 1, -sum w log sigmoid(score[winner] - score[loser]); the count is the sum of weights, so prompts.

    With weights 1 / comparisons of the prompt, every prompt with at least one comparison weighs 1.
    """
    score = score_B.float()
    margin_N = score[winner_N] - score[loser_N]
    return Sum(-(weight_N * functional.logsigmoid(margin_N)).sum(), weight_N.sum())


def ppo_policy_loss(
    logprobs_BC: Float[Tensor, "B C"],
    old_logprobs_BC: Float[Tensor, "B C"],
    advantage_BC: Float[Tensor, "B C"],
    mask_BC: Bool[Tensor, "B C"],
    *,
    clip_ratio: float,
) -> tuple[Sum, Metrics]:
    """Return sum over tokens of max(-A r, -A clip(r, 1 - eps, 1 + eps)), r = pi / pi_old (Schulman 2017, eq. 7).

    Metrics are means over tokens: `policy/approxkl` is k2, (log r)^2 / 2; `policy/clipfrac` is where the clipped branch
    is the larger, so where the token has lost its gradient; `policy/ratio` is r. At first they are 0, 0 and 1 exactly.
    """
    # The mask comes before exp, so that an infinity off the mask cannot turn the gradient into NaN.
    log_ratio = torch.where(mask_BC, logprobs_BC.float() - old_logprobs_BC.float(), 0.0)
    ratio, advantage = log_ratio.exp(), advantage_BC.float()
    unclipped = -advantage * ratio
    clipped = -advantage * ratio.clamp(1.0 - clip_ratio, 1.0 + clip_ratio)
    metrics = {
        "policy/approxkl": masked_sum(0.5 * log_ratio.detach().square(), mask_BC),
        "policy/clipfrac": masked_sum((clipped > unclipped).float(), mask_BC),
        "policy/ratio": masked_sum(ratio.detach(), mask_BC),
    }
    return masked_sum(torch.maximum(unclipped, clipped), mask_BC), metrics


def value_loss(
    value_BC: Float[Tensor, "B C"],
    old_value_BC: Float[Tensor, "B C"],
    return_BC: Float[Tensor, "B C"],
    mask_BC: Bool[Tensor, "B C"],
    *,
    clip_value: float,
) -> tuple[Sum, Metrics]:
    """Return sum over tokens of max((v - R)^2, (clip(v, v_old +- c) - R)^2) / 2 (Ziegler 2019, Stiennon 2020).

    `value/clipfrac` is the fraction of tokens where the clipped branch is the larger; 0 exactly before any update.
    """
    # As above: the mask comes before the square.
    value, old, target = torch.where(mask_BC, value_BC.float(), 0.0), old_value_BC.float(), return_BC.float()
    clipped = torch.clamp(value, old - clip_value, old + clip_value)
    error, clipped_error = (value - target).square(), (clipped - target).square()
    metrics = {"value/clipfrac": masked_sum((clipped_error > error).float(), mask_BC)}
    return masked_sum(0.5 * torch.maximum(error, clipped_error), mask_BC), metrics
